import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import {
  BackupError,
  BackupPipeline,
  type BlockCall,
  CopyOnWriteVolume,
  MemoryDevice,
  type PipelineOptions,
  type VolumeSnapshot,
} from '../../src/index.ts';
import { FaultyDevice } from '../../src/testing.ts';
import { folderForFile } from '../support/folders.ts';
import { randomBytes } from '../support/randomness.ts';
import { turn } from '../support/turn.ts';
import { withCode } from '../support/with-code.ts';
import {
  BLOCK,
  contentOf,
  filledVolume,
  HostRows,
  isSame,
  overwriteAll,
  QUICK,
  reasonOf,
  restored,
} from './support/host-rows.ts';

/** Whatever fails, and wherever: the snapshot is left so that another pipeline can finish it. */

const BLOCKS = 48;

/** Everything that a failed pipeline must leave behind, and that the next one restores the instant. */
async function finishes(snapshot: VolumeSnapshot, rows: HostRows, before: Uint8Array): Promise<void> {
  expect(snapshot.states.counts.storing).toBe(0);
  await overwriteAll(snapshot.volume as CopyOnWriteVolume);
  const { record } = await BackupPipeline.start(snapshot, { store: rows.store }).sweep().done;
  expect(record.isWhole).toBe(true);
  expect(isSame(await restored(record, rows), before)).toBe(true);
}

const untilAborted = (_: number, __: Uint8Array, { signal }: BlockCall) =>
  new Promise<void>((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

describe('a store that', () => {
  type Failing = (rows: HostRows) => PipelineOptions['store'];
  const failing: [string, Failing][] = [
    [
      'throws',
      () => () => {
        throw new Error('refused');
      },
    ],
    ['rejects', () => async () => Promise.reject(new Error('refused'))],
    ['rejects with nothing', () => () => Promise.reject(undefined)],
    [
      'stores and then rejects',
      (rows) => async (block, bytes) => {
        await rows.store(block, bytes);
        throw new Error('refused');
      },
    ],
    [
      'rejects later',
      () => async () => {
        await turn();
        await turn();
        throw new Error('refused');
      },
    ],
  ];

  test.each(failing)('%s is called as often as the options allow, and nothing is lost', async (_, make) => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const store = make(rows);
    const attempts: number[] = [];
    let calls = 0;
    const pipeline = BackupPipeline.start(snapshot, {
      store: (block, bytes, call) => (block === 30 ? store(block, bytes, call) : rows.store(block, bytes)),
      retry: { ...QUICK, attempts: 4 },
    });
    pipeline.events.on('attemptFailed', (block, __, attempt) => {
      expect(block).toBe(30);
      attempts.push(attempt);
      calls++;
    });
    const error = (await reasonOf(pipeline.sweep().done)) as BackupError;
    expect(error).toEqual(withCode('STORE_FAILED'));
    expect(error.message).toMatch(/block 30 could not be stored, after 4 attempts/);
    expect([attempts, calls, pipeline.status]).toEqual([[1, 2, 3, 4], 4, 'failed']);
    expect(snapshot.states.get(30)).toBe('pending');
    await finishes(snapshot, rows, before);
    await volume.close();
  });

  test.each(failing)('%s now and then costs only attempts', async (_, make) => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const store = make(rows);
    const pipeline = BackupPipeline.start(snapshot, {
      store: (block, bytes, call) =>
        (block + call.attempt) % 3 === 0 ? store(block, bytes, call) : rows.store(block, bytes),
      retry: { ...QUICK, attempts: 3 },
    });
    const { record, storedBlocks } = await pipeline.sweep().done;
    expect(storedBlocks).toBe(BLOCKS);
    expect(isSame(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  test('answers after the abort has stored the block all the same', async () => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const gates: (() => void)[] = [];
    const pipeline = BackupPipeline.start(snapshot, {
      concurrency: 3,
      store: async (block, bytes) => {
        await new Promise<void>((resolve) => gates.push(resolve));
        await rows.store(block, bytes);
      },
    }).sweep();
    while (gates.length < 3) await turn();
    let isAborted = false;
    const aborted = pipeline.abort().then(() => {
      isAborted = true;
    });
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(isAborted).toBe(false); // It waits for the calls.
    expect(pipeline.status).toBe('sweeping');
    for (const open of gates) open();
    await aborted;
    expect(pipeline.status).toBe('aborted');
    expect(snapshot.states.counts).toMatchObject({ stored: 3, storing: 0 });
    expect(gates.length).toBe(3);
    expect(((await reasonOf(pipeline.done)) as Error).name).toBe('AbortError');
    await finishes(snapshot, rows, before);
    await volume.close();
  });

  test('never answers does not delay the host, and ends with the abort', async () => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, { store: untilAborted }).sweep();
    await overwriteAll(volume);
    expect(pipeline.ask().safeBlocks).toBe(0);
    await pipeline.abort();
    expect(snapshot.states.counts).toMatchObject({ preserved: BLOCKS, stored: 0, storing: 0 });
    await finishes(snapshot, new HostRows(), before);
    await volume.close();
  });

  test('transfers the memory that it is given ends the pipeline, and no empty block is stored', async () => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const lengths: number[] = [];
    const pipeline = BackupPipeline.start(snapshot, {
      store: (_, bytes) => {
        lengths.push(bytes.length);
        structuredClone(bytes, { transfer: [bytes.buffer] });
      },
    });
    expect(await reasonOf(pipeline.sweep().done)).toMatchObject({
      name: 'TypeError',
      message: expect.stringMatching(/the bytes of block \d+ are gone.*copy it first/),
    });
    expect(lengths).toEqual(lengths.map(() => BLOCK));
    const again = { attempts: 2, ...QUICK };
    const retried = BackupPipeline.start(snapshot, {
      concurrency: 1,
      retry: again,
      store: (_, bytes) => {
        structuredClone(bytes, { transfer: [bytes.buffer] });
        throw new Error('the other thread is gone');
      },
    });
    expect(await reasonOf(retried.sweep().done)).toMatchObject({ name: 'TypeError' });
    await BackupPipeline.start(snapshot, { store: async () => {} }).abort();
    expect(before.length).toBe(BLOCKS * BLOCK);
    await volume.close();
  });
});

describe('whether a call is repeated', () => {
  const refused = new BackupError('READ_ONLY', 'the store can only be read');
  const busy = new BackupError('TARGET_ERROR', 'the store is busy', { retryable: true, retryAfterMs: 1e9 });
  const cases: [string, unknown, PipelineOptions['retry'], number][] = [
    ['a BackupError that is not retryable is final', refused, QUICK, 1],
    ['a BackupError that is retryable is not', busy, { ...QUICK, attempts: 3 }, 3],
    ['isRetryable decides instead', new TypeError('no'), { ...QUICK, isRetryable: () => false }, 1],
    ['isRetryable overrules a BackupError', refused, { ...QUICK, attempts: 2, isRetryable: () => true }, 2],
    [
      'an isRetryable that throws is final',
      new Error('no'),
      {
        ...QUICK,
        isRetryable: () => {
          throw new Error('I do not know');
        },
      },
      1,
    ],
    ['one attempt is one call', new Error('no'), { ...QUICK, attempts: 1 }, 1],
  ];
  test.each(cases)('%s', async (_, error, retry, calls) => {
    const { volume } = await filledVolume(4);
    await using snapshot = await volume.createSnapshot();
    const store = vi.fn(() => Promise.reject(error));
    const pipeline = BackupPipeline.start(snapshot, { store, retry, concurrency: 1 });
    const failure = (await reasonOf(pipeline.sweep().done)) as BackupError;
    expect(failure).toMatchObject({ code: 'STORE_FAILED', retryable: true });
    expect(store).toHaveBeenCalledTimes(calls);
    expect(snapshot.states.counts.pending).toBe(4);
    await volume.close();
  });
});

describe('an abort', () => {
  const reason = new Error('the host has changed its mind');

  test('before the start refuses it', async () => {
    const { volume } = await filledVolume(4);
    await using snapshot = await volume.createSnapshot();
    const signal = AbortSignal.abort(reason);
    expect(() => BackupPipeline.start(snapshot, { store: async () => {}, signal })).toThrow(reason);
    await BackupPipeline.start(snapshot, { store: async () => {} }).sweep().done; // It is not in use.
    await volume.close();
  });

  /** Where it aborts, and what must be reached first. */
  const places: [string, (abort: () => void) => Partial<PipelineOptions>][] = [
    [
      'at once',
      (abort) => {
        queueMicrotask(abort);
        return {};
      },
    ],
    [
      'while it takes over what is unchanged',
      (abort) => ({
        changes: (function* () {
          yield { firstBlock: 0, blockCount: 1 };
          abort();
          yield { firstBlock: 7, blockCount: BLOCKS };
        })(),
      }),
    ],
    [
      'while a transform runs',
      (abort) => ({
        transforms: [
          {
            name: 'slow',
            apply: async (bytes) => {
              abort();
              await turn();
              return bytes;
            },
            undo: (bytes) => bytes,
          },
        ],
      }),
    ],
    [
      'between attempts',
      (abort) => ({
        retry: { baseDelayMs: 1e6 },
        store: async () => {
          setImmediate(abort);
          throw new Error('refused');
        },
      }),
    ],
    [
      'while blocks are stored',
      (abort) => ({
        store: (...args) => {
          setImmediate(abort);
          return untilAborted(...args);
        },
      }),
    ],
  ];
  test.each(places)('%s leaves a snapshot that can be continued', async (_, options) => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const controller = new AbortController();
    const abort = () => controller.abort(reason);
    const rows = new HostRows();
    const pipeline = BackupPipeline.start(snapshot, {
      store: rows.store,
      signal: controller.signal,
      ...options(abort),
    }).sweep();
    expect(await reasonOf(pipeline.done)).toBe(reason);
    expect(pipeline.status).toBe('aborted');
    expect(snapshot.states.counts.storing).toBe(0);
    if (snapshot.states.counts.inherited === 0) await finishes(snapshot, rows, before);
    await volume.close();
  });

  test('while the device reads waits for it, and what it reads goes nowhere', async () => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const held: (() => void)[] = [];
    const read = snapshot.read.bind(snapshot);
    const reading = vi.spyOn(snapshot, 'read').mockImplementation(async (...args) => {
      await new Promise<void>((resolve) => held.push(resolve));
      await read(args[0], args[1]);
    });
    const rows = new HostRows();
    const pipeline = BackupPipeline.start(snapshot, { store: rows.store }).sweep();
    while (held.length === 0) await turn();
    const aborted = pipeline.abort();
    reading.mockRestore();
    for (const open of held) open();
    await aborted;
    expect(snapshot.states.counts).toMatchObject({ pending: BLOCKS, storing: 0 });
    expect(rows.rows.size).toBe(0);
    await finishes(snapshot, rows, before);
    await volume.close();
  });

  test('twice, after a failure or after the end does nothing more', async () => {
    const { volume } = await filledVolume(4);
    await using snapshot = await volume.createSnapshot();
    const failed = BackupPipeline.start(snapshot, {
      store: () => Promise.reject(new Error('no')),
      retry: { attempts: 1 },
    }).sweep();
    await reasonOf(failed.done);
    await Promise.all([failed.abort(), failed.close()]);
    expect([failed.status, await reasonOf(failed.done)]).toEqual(['failed', withCode('STORE_FAILED')]);
    const complete = BackupPipeline.start(snapshot, { store: async () => {} }).sweep();
    await complete.done;
    await complete.abort();
    expect([complete.status, complete.sweep().status]).toEqual(['complete', 'complete']);
    complete.pause();
    complete.resume();
    expect(complete.status).toBe('complete');
    await volume.close();
  });
});

describe('a snapshot that ends in the middle', () => {
  const ends: [string, string, (snapshot: VolumeSnapshot) => Promise<unknown>][] = [
    ['is closed', 'CLOSED', (snapshot) => snapshot.close()],
    ['is closed with its volume', 'CLOSED', (snapshot) => snapshot.volume.close()],
  ];
  test.each(ends)('because it %s ends the pipeline', async (_, code, end) => {
    for (const isSwept of [false, true]) {
      const { volume } = await filledVolume(BLOCKS);
      const snapshot = await volume.createSnapshot();
      const pipeline = BackupPipeline.start(snapshot, { store: untilAborted });
      if (isSwept) pipeline.sweep();
      await turn();
      await end(snapshot);
      expect(await reasonOf(pipeline.done)).toEqual(withCode(code));
      expect([pipeline.status, pipeline.record().isWhole]).toEqual(['failed', false]);
      expect(() => BackupPipeline.start(snapshot, { store: untilAborted })).toThrow(withCode(code));
      await volume.close();
    }
  });

  test('because it breaks ends the pipeline', async () => {
    const preserve = { memoryBytes: 2 * BLOCK, spillBytes: 0, deadlineMs: 1, onFailure: 'break-snapshot' } as const;
    const { volume } = await filledVolume(BLOCKS, { preserve });
    const snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, { store: untilAborted });
    const broken = reasonOf(pipeline.done);
    await overwriteAll(volume);
    expect(await broken).toEqual(withCode('SNAPSHOT_BROKEN'));
    expect(() => BackupPipeline.start(snapshot, { store: untilAborted })).toThrow(withCode('SNAPSHOT_BROKEN'));
    await volume.close();
  });

  test('or whose blocks are lost completes without them, and says so', async () => {
    const preserve = { memoryBytes: 2 * BLOCK, spillBytes: 0, deadlineMs: 1, onFailure: 'lose-block' } as const;
    const { volume, before } = await filledVolume(BLOCKS, { preserve });
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const pipeline = BackupPipeline.start(snapshot, { store: rows.store });
    pipeline.pause();
    await overwriteAll(volume);
    pipeline.resume();
    const { record } = await pipeline.sweep().done;
    const { stored, lost } = record.states.counts;
    expect([stored + lost, lost > 0, record.isWhole]).toEqual([BLOCKS, true, false]);
    expect(pipeline.ask()).toMatchObject({ safeBlocks: stored, isSafe: false });
    expect(await reasonOf(restored(record, rows))).toEqual(withCode('BLOCK_LOST'));
    const bytes = await restored(record, rows, { allowLost: true });
    for (const { firstBlock, blockCount, state } of record.states.ranges()) {
      const part = (of: Uint8Array) => of.subarray(firstBlock * BLOCK, (firstBlock + blockCount) * BLOCK);
      const expected = state === 'lost' ? new Uint8Array(blockCount * BLOCK) : part(before);
      expect(isSame(part(bytes), expected)).toBe(true);
    }
    await volume.close();
  });

  test('blocks that are lost while they are read are left out', async () => {
    const preserve = { memoryBytes: BLOCK, spillBytes: 0, deadlineMs: 1, onFailure: 'lose-block' } as const;
    const { volume } = await filledVolume(BLOCKS, { preserve });
    await using snapshot = await volume.createSnapshot();
    const read = snapshot.read.bind(snapshot);
    let isFirst = true;
    vi.spyOn(snapshot, 'read').mockImplementation(async (...args) => {
      if (isFirst) {
        isFirst = false;
        await volume.write(0, randomBytes(8 * BLOCK)); // Of which one pre-image can be kept at a time.
      }
      return read(...args);
    });
    const rows = new HostRows();
    const { record } = await BackupPipeline.start(snapshot, { store: rows.store }).sweep().done;
    const { lost, stored, storing } = record.states.counts;
    expect(lost).toBeGreaterThan(0);
    expect([stored, storing]).toEqual([BLOCKS - lost, 0]);
    expect([...rows.rows.keys()].every((block) => record.states.get(block) === 'stored')).toBe(true);
    await volume.close();
  });

  test('an earlier run has what was lost before it was known to be unchanged', async () => {
    const preserve = { memoryBytes: BLOCK, spillBytes: 0, deadlineMs: 1, onFailure: 'lose-block' } as const;
    const { volume, before } = await filledVolume(BLOCKS, { preserve });
    const rows = new HostRows();
    const one = await volume.createSnapshot();
    const first = await BackupPipeline.start(one, { store: rows.store }).sweep().done;
    await one.close();
    await using two = await volume.createSnapshot();
    await volume.write(0, randomBytes(8 * BLOCK)); // Nobody has looked for what is unchanged.
    expect(two.states.counts.lost).toBe(7);
    const second = BackupPipeline.start(two, { store: rows.store, previous: first.record, changes: [] });
    const { record } = await second.done;
    expect([record.states.counts.lost, record.isWhole]).toEqual([0, true]);
    expect(isSame(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });
});

test('an error of the device ends the pipeline, and the snapshot can be continued', async () => {
  const device = new MemoryDevice(BLOCKS * BLOCK);
  let isBroken = false;
  const faulty = new FaultyDevice(device, {
    next: ({ operation }) => (isBroken && operation === 'read' ? { kind: 'fail-before' } : undefined),
  });
  const { volume, before } = await filledVolume(BLOCKS, {}, faulty);
  await using snapshot = await volume.createSnapshot();
  const rows = new HostRows();
  isBroken = true;
  const pipeline = BackupPipeline.start(snapshot, { store: rows.store }).sweep();
  expect(await reasonOf(pipeline.done)).toEqual(withCode('DEVICE_IO'));
  expect(snapshot.states.counts).toMatchObject({ pending: BLOCKS, storing: 0 });
  isBroken = false;
  await finishes(snapshot, rows, before);
  await volume.close();
});

describe('two pipelines', () => {
  test('on one handle are refused, until the first one has ended', async () => {
    const { volume } = await filledVolume(4);
    await using snapshot = await volume.createSnapshot();
    const first = BackupPipeline.start(snapshot, { store: untilAborted }).sweep();
    expect(() => BackupPipeline.start(snapshot, { store: async () => {} })).toThrow(withCode('VOLUME_BUSY'));
    const refused = reasonOf(first.done);
    const ended = new Promise<BackupPipeline>((resolve) => {
      first.events.on('ended', () => resolve(BackupPipeline.start(snapshot, { store: async () => {} })));
    });
    await first.abort();
    await refused;
    await (await ended).sweep().done; // One that a listener of the end has started.
    await volume.close();
  });

  test('on shared handles both store everything', async () => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using one = await volume.createSnapshot();
    await using two = await one.share();
    const rows = [new HostRows(), new HostRows()];
    const pipelines = [one, two].map((handle, at) =>
      BackupPipeline.start(handle, { store: (rows[at] as HostRows).store }).sweep(),
    );
    await overwriteAll(volume);
    for (const [at, { done }] of pipelines.entries()) {
      const { record } = await done;
      expect(isSame(await restored(record, rows[at] as HostRows), before)).toBe(true);
    }
    await volume.close();
  });
});

test('a host that marks blocks by itself ends the pipeline, which leaves those alone', async () => {
  const { volume } = await filledVolume(BLOCKS);
  await using snapshot = await volume.createSnapshot();
  const pipeline = BackupPipeline.start(snapshot, {
    concurrency: 8,
    store: (block, bytes, call) => {
      if (block !== 3) return untilAborted(block, bytes, call);
      for (const other of [1, 3]) snapshot.mark(other, 'failed');
      snapshot.mark(1, 'inherited');
      return undefined;
    },
  }).sweep();
  expect(await reasonOf(pipeline.done)).toEqual(withCode('INVALID_TRANSITION'));
  expect(pipeline.status).toBe('failed');
  expect(snapshot.states.counts).toMatchObject({ inherited: 1, pending: BLOCKS - 1, storing: 0 });
  await BackupPipeline.start(snapshot, { store: async () => {} }).sweep().done;
  await volume.close();
});

describe('callbacks that throw', () => {
  test('become one warning each, and change nothing', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const pipeline = BackupPipeline.start(snapshot, {
      store: rows.store,
      onProgress: () => {
        throw new Error('no progress');
      },
    });
    for (const event of ['blockStored', 'ended'] as const) {
      pipeline.events.on(event, () => {
        throw new Error(`a listener of ${event}`);
      });
    }
    pipeline.events.on('blockStored', async () => Promise.reject(new Error('later')));
    const { record } = await pipeline.sweep().done;
    expect(isSame(await restored(record, rows), before)).toBe(true);
    const codes = warned.mock.calls.map(([, options]) => (options as unknown as { code: string }).code);
    warned.mockRestore();
    expect(codes).toEqual(['COW_CALLBACK_FAILED', 'COW_CALLBACK_FAILED']);
    await volume.close();
  });
});

describe('a failure that nobody has asked for', () => {
  async function warningsOf(use: (pipeline: BackupPipeline) => unknown): Promise<string[]> {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const { volume } = await filledVolume(4, { name: 'disk' });
    const snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, {
      store: () => Promise.reject(new Error('the store is gone')),
      retry: { attempts: 1 },
    });
    await use(pipeline);
    const ended = new Promise((resolve) => pipeline.events.once('ended', resolve));
    if (!/aborted|failed/.test(pipeline.status)) await ended;
    for (let turns = 0; turns < 3; turns++) await turn();
    const texts = warned.mock.calls.map(([text, of]) => `${(of as unknown as { code: string }).code}: ${text}`);
    warned.mockRestore();
    await volume.close();
    return texts;
  }

  test('is one warning', async () => {
    const [text, ...more] = await warningsOf((pipeline) => void pipeline.sweep());
    expect(more).toEqual([]);
    expect(text).toMatch(/^COW_BACKUP_FAILED: a pipeline of disk failed, .*the store is gone/);
  });

  test('is none where the host waits for it, or has aborted', async () => {
    expect(await warningsOf((pipeline) => reasonOf(pipeline.sweep().done))).toEqual([]);
    expect(await warningsOf((pipeline) => pipeline.abort())).toEqual([]);
  });
});

describe('a program that', () => {
  const folder = folderForFile();
  const library = pathToFileURL(join(import.meta.dirname, '../../src/index.ts'));
  const program = (end: string) => `
import { BackupPipeline, CopyOnWriteVolume, MemoryDevice } from '${library}';
const volume = await CopyOnWriteVolume.open(new MemoryDevice(new Uint8Array(1 << 20).fill(7)), { name: 'disk' });
const snapshot = await volume.createSnapshot();
const pipeline = BackupPipeline.start(snapshot, { store: async () => {} });
${end}
`;

  test.concurrent.each([
    ['has nothing left to do', '', 1],
    ['calls process.exit', 'process.exit(0);', 1],
    ['has paused it', 'pipeline.sweep().pause();', 1],
    ['has closed its pipeline', 'await pipeline.close();', 0],
    ['has finished its pipeline', 'await pipeline.sweep().done;', 0],
  ])('%s is warned of a pipeline that is lazy, once', async (_, end, warnings) => {
    const file = join(folder, `program-${end.length}.mjs`);
    writeFileSync(file, program(end));
    // A pipeline that kept the process alive would run into the time limit.
    const { stderr } = await promisify(execFile)(process.execPath, [file], { timeout: 20_000 });
    expect(stderr.split('COW_BACKUP_UNFINISHED').length - 1).toBe(warnings);
    if (warnings > 0) expect(stderr).toMatch(/they are lost: a pipeline of disk \((lazy|paused)\); call sweep/);
  });
});

describe('a pause', () => {
  const places: [string, (pipeline: BackupPipeline, volume: CopyOnWriteVolume) => unknown][] = [
    ['from the start', () => {}],
    ['after the sweep was asked for', (pipeline) => pipeline.sweep()],
    ['while the host writes', (_, volume) => overwriteAll(volume)],
    [
      'while blocks are stored',
      (pipeline) => {
        pipeline.sweep();
        return turn();
      },
    ],
  ];
  test.each(places)('%s stops what is new, and a resume goes on', async (_, prepare) => {
    const { volume, before } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const gate = Promise.withResolvers<void>();
    let begun = 0;
    const store = async (block: number, bytes: Uint8Array) => {
      if (++begun > 10) await gate.promise; // Otherwise it could be complete by now.
      await rows.store(block, bytes);
    };
    const pipeline = BackupPipeline.start(snapshot, { store, concurrency: 2 });
    if (places[0]?.[0] === _) pipeline.pause();
    await prepare(pipeline, volume);
    pipeline.pause();
    pipeline.pause();
    const begunBefore = begun;
    await overwriteAll(volume);
    pipeline.sweep();
    for (let turns = 0; turns < 3; turns++) await turn();
    expect([pipeline.status, begun]).toEqual(['paused', begunBefore]);
    gate.resolve();
    pipeline.resume();
    pipeline.resume();
    expect(pipeline.status).not.toBe('paused');
    const { record } = await pipeline.done;
    expect(isSame(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  test('ends with an abort', async () => {
    const { volume } = await filledVolume(BLOCKS);
    await using snapshot = await volume.createSnapshot();
    const pipeline = BackupPipeline.start(snapshot, { store: untilAborted, concurrency: 1 }).sweep();
    await turn();
    pipeline.pause();
    await turn();
    await pipeline.abort();
    expect([pipeline.status, snapshot.states.counts.storing]).toEqual(['aborted', 0]);
    await volume.close();
  });
});

describe('volumes of every kind', () => {
  test('that are used through the synchronous door only', async () => {
    const device = new MemoryDevice(randomBytes(BLOCKS * BLOCK));
    const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const before = Uint8Array.from(device.bytes);
    const snapshot = volume.createSnapshotSync();
    const rows = new HostRows();
    const pipeline = BackupPipeline.start(snapshot, { store: rows.store });
    for (let block = 0; block < BLOCKS; block += 2) volume.writeSync(block * BLOCK, randomBytes(BLOCK));
    pipeline.sweep();
    for (let block = 1; block < BLOCKS; block += 2) {
      volume.writeSync(block * BLOCK, randomBytes(BLOCK));
      if (block % 8 === 1) await turn();
    }
    const { record } = await pipeline.done;
    expect(isSame(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });

  test('that have one instant', async () => {
    const parts = [await filledVolume(BLOCKS), await filledVolume(7)];
    const snapshots = await CopyOnWriteVolume.createSnapshots(parts.map(({ volume }) => volume));
    const rows = parts.map(() => new HostRows());
    const pipelines = snapshots.map((snapshot, at) =>
      BackupPipeline.start(snapshot, { store: (rows[at] as HostRows).store }).sweep(),
    );
    await Promise.all(parts.map(({ volume }) => overwriteAll(volume)));
    for (const [at, { done }] of pipelines.entries()) {
      const { record } = await done;
      expect(record.frozenAt).toEqual(snapshots[0]?.frozenAt);
      expect(isSame(await restored(record, rows[at] as HostRows), parts[at]?.before as Uint8Array)).toBe(true);
    }
    for (const { volume } of parts) await volume.close();
  });

  const bytes = (size: number, sectorSize: number) => new MemoryDevice(size, { sectorSize });
  test.each([
    ['no bytes', bytes(0, 1)],
    ['one short block', bytes(100, 1)],
    ['a last block of one sector', bytes(5 * BLOCK + 512, 512)],
    ['a last block of one byte', bytes(5 * BLOCK + 1, 1)],
    ['transfers of at most two blocks', transferring(bytes(5 * BLOCK + 512, 512), 2 * BLOCK + 512)],
  ])('with %s', async (_, device) => {
    const { volume, before } = await filledVolume(0, {}, device);
    await using snapshot = await volume.createSnapshot();
    const rows = new HostRows();
    const pipeline = BackupPipeline.start(snapshot, { store: rows.store });
    if (volume.size > 0) await volume.write(volume.size - volume.sectorSize, randomBytes(volume.sectorSize));
    const { record, readBytes } = await pipeline.sweep().done;
    expect(record.isWhole).toBe(true);
    expect(readBytes).toBe(volume.size);
    expect(pipeline.progress()).toMatchObject({
      doneBytes: volume.size,
      storedBytes: volume.size,
      totalBytes: volume.size || undefined,
    });
    expect(isSame(await restored(record, rows), before)).toBe(true);
    await volume.close();
  });
});

/** A device that takes so many bytes in one call. */
function transferring(inner: MemoryDevice, maxTransferBytes: number): MemoryDevice {
  const check = (length: number) => {
    if (length > maxTransferBytes) throw new RangeError(`a transfer of ${length} bytes`);
  };
  return Object.assign(Object.create(inner), {
    size: inner.size,
    sectorSize: inner.sectorSize,
    maxTransferBytes,
    read: async (offset: number, into: Uint8Array) => {
      check(into.length);
      return inner.read(offset, into);
    },
    write: async (offset: number, from: Uint8Array) => {
      check(from.length);
      return inner.write(offset, from);
    },
    flush: async () => {},
    readSync: undefined,
    writeSync: undefined,
    discard: undefined,
    writeZeroes: undefined,
    [Symbol.asyncDispose]: async () => {},
  });
}

test('wrong changes are found when they are looked at', async () => {
  const { volume } = await filledVolume(4);
  await using snapshot = await volume.createSnapshot();
  const store = async () => {};
  for (const changes of [[null], [{}], ['a'], [{ firstBlock: 0 }], [-1]] as never[]) {
    const pipeline = BackupPipeline.start(snapshot, { store, changes });
    expect(await reasonOf(pipeline.done)).toMatchObject({
      name: 'TypeError',
      message: expect.stringContaining('options.changes'),
    });
  }
  const thrown = new Error('the list is gone');
  const changes: Iterable<number> = {
    [Symbol.iterator]: () => {
      throw thrown;
    },
  };
  expect(await reasonOf(BackupPipeline.start(snapshot, { store, changes: changes as never }).done)).toBe(thrown);
  expect(snapshot.states.counts.pending).toBe(4);
  expect(isSame(await contentOf(snapshot), await contentOf(volume))).toBe(true);
  await volume.close();
});
