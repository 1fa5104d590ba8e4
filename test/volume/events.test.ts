import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CopyOnWriteVolume, MemoryDevice, type PreserveOptions } from '../../src/index.ts';
import { turn } from '../support/turn.ts';
import { BLOCK, codesOf, contentOf, expectFilled, filled } from './support/bytes.ts';
import { listenTo } from './support/heard.ts';
import { openSyncVolume } from './support/open-volume.ts';

/** What a volume tells its host, and that nothing the host does with it comes back to a write. */

const BLOCKS = 16;

const open = (preserve: PreserveOptions = {}) => openSyncVolume(BLOCKS, { preserve });

/** Gives everything that is published on the volume's channels from now on. */
function published(): { channel: string; message: Record<string, unknown> }[] {
  const messages: { channel: string; message: Record<string, unknown> }[] = [];
  for (const name of ['snapshot-begun', 'snapshot-broken', 'block-preserved', 'block-lost']) {
    const channel = `cow-cloud-backup:volume:${name}`;
    const onMessage = (message: unknown) => messages.push({ channel, message: message as Record<string, unknown> });
    subscribe(channel, onMessage);
    onTestFinished(() => {
      unsubscribe(channel, onMessage);
    });
  }
  return messages;
}

describe('events', () => {
  test('tell of a snapshot begun, blocks preserved and lost, a snapshot broken, each with what it is about', async () => {
    const { device, volume } = await open({ memoryBytes: 2 * BLOCK, spillBytes: 0, onFailure: 'lose-block' });
    const heard = listenTo(volume);
    const snapshot = await volume.createSnapshot();
    await turn();
    expect(heard.splice(0)).toEqual([{ name: 'snapshotBegun', snapshot }]);
    await volume.write(3 * BLOCK + 100, filled(1, 10));
    await turn();
    expect(heard.splice(0)).toEqual([{ name: 'blockPreserved', snapshot, blocks: { firstBlock: 3, blockCount: 1 } }]);
    device.failOn({ kind: 'read', at: 4 * BLOCK });
    await volume.write(4 * BLOCK, filled(1));
    await turn();
    const [lost, ...more] = heard.splice(0);
    expect(more).toEqual([]);
    expect(lost).toMatchObject({ name: 'blockLost', snapshot, blocks: { firstBlock: 4, blockCount: 1 } });
    expect(codesOf(lost?.error)).toEqual(['PRESERVE_FAILED', 'DEVICE_IO']);

    const broken = await open({ memoryBytes: 0, spillBytes: 0 });
    const heardOfBroken = listenTo(broken.volume);
    const victim = await broken.volume.createSnapshot();
    await broken.volume.write(0, filled(1));
    await turn();
    expect(heardOfBroken).toEqual([
      { name: 'snapshotBegun', snapshot: victim },
      { name: 'snapshotBroken', snapshot: victim, error: victim.error },
    ]);
    expect(codesOf(victim.error)).toEqual(['SNAPSHOT_BROKEN', 'PRESERVE_FAILED', 'PREIMAGE_SPACE']);
  });

  test('come after what they tell of: never in the middle of a call', async () => {
    const { volume } = await open();
    const snapshot = volume.createSnapshotSync();
    const order: string[] = [];
    volume.events.on('snapshotBegun', () => order.push('snapshotBegun'));
    volume.events.on('blockPreserved', (_, { firstBlock }) => order.push(`blockPreserved ${firstBlock}`));
    volume.writeSync(0, filled(0xaa));
    order.push('writeSync has returned');
    volume.createSnapshotSync();
    order.push('createSnapshotSync has returned');
    await turn();
    expect(order).toEqual([
      'writeSync has returned',
      'createSnapshotSync has returned',
      'blockPreserved 0',
      'snapshotBegun',
    ]);
    await expectFilled(snapshot, 1, 0);
  });

  test('tell neighbouring blocks together, for each snapshot that they were preserved for', async () => {
    const { volume } = await open();
    const [first, second] = [volume.createSnapshotSync(), volume.createSnapshotSync()];
    await turn();
    const heard = listenTo(volume);
    volume.writeSync(2 * BLOCK, filled(0xaa, 3 * BLOCK));
    volume.writeSync(5 * BLOCK, filled(0xaa, BLOCK));
    volume.writeSync(8 * BLOCK, filled(0xaa, 2 * BLOCK));
    await turn();
    const emitted = (snapshot: typeof first) =>
      heard.filter((event) => event.snapshot === snapshot).map(({ name, blocks }) => [name, blocks]);
    for (const snapshot of [first, second]) {
      expect(emitted(snapshot)).toEqual([
        ['blockPreserved', { firstBlock: 2, blockCount: 4 }],
        ['blockPreserved', { firstBlock: 8, blockCount: 2 }],
      ]);
    }
    expect(heard).toHaveLength(4);
  });

  test('of one asynchronous write over many blocks add up to those blocks, each reported once', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    const heard = listenTo(volume);
    await volume.write(BLOCK + 1, filled(0xaa, 6 * BLOCK));
    await turn();
    const blocks = heard
      .filter(({ name }) => name === 'blockPreserved')
      .flatMap(({ blocks }) =>
        Array.from({ length: blocks?.blockCount ?? 0 }, (_, at) => (blocks?.firstBlock ?? 0) + at),
      );
    expect(blocks.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(snapshot.states.counts.preserved).toBe(7);
  });

  test('do not tell of a block again that is overwritten again, nor of one that nobody wants', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    snapshot.mark(1, 'inherited');
    await turn();
    const heard = listenTo(volume);
    await volume.write(0, filled(1));
    await volume.write(0, filled(2));
    await volume.write(BLOCK, filled(3));
    await turn();
    expect(heard).toHaveLength(1);
    await volume.write(100, filled(1, 1));
    await turn();
    expect(heard).toHaveLength(1);
  });

  test('reach a listener for once only once, and none that has left', async () => {
    const { volume } = await open();
    const heard: number[] = [];
    volume.events.once('blockPreserved', (_, { firstBlock }) => heard.push(firstBlock));
    const leaver = () => heard.push(-1);
    volume.events.on('blockPreserved', leaver).off('blockPreserved', leaver);
    await volume.createSnapshot();
    await volume.write(0, filled(1));
    await turn();
    await volume.write(BLOCK, filled(1));
    await turn();
    expect(heard).toEqual([0]);
  });

  test('may be answered with calls of the volume', async () => {
    const { volume } = await open();
    const snapshot = await volume.createSnapshot();
    const copied: Promise<Uint8Array>[] = [];
    volume.events.on('blockPreserved', (preserved, { firstBlock }) => {
      copied.push(contentOf(preserved, firstBlock * BLOCK, BLOCK));
      if (firstBlock === 0) volume.writeSync(BLOCK, filled(0xcc));
    });
    await volume.write(0, filled(0xaa));
    await turn();
    expect((await Promise.all(copied)).map((content) => content[0])).toEqual([1, 2]);
    await snapshot.close();
  });
});

describe('there is no error event', () => {
  test.each(['fail-write', 'lose-block', 'break-snapshot'] as const)('under %s either', async (onFailure) => {
    const { volume } = await open({ memoryBytes: 0, spillBytes: 0, onFailure });
    const emitted: unknown[] = [];
    volume.events.on('error' as 'snapshotBegun', (error) => emitted.push(error));
    await volume.createSnapshot();
    const outcome = await volume.write(0, filled(1)).then(
      () => 'written',
      (error: unknown) => codesOf(error)[0],
    );
    expect(outcome).toBe(onFailure === 'fail-write' ? 'PRESERVE_FAILED' : 'written');
    await turn();
    expect(emitted).toEqual([]);
  });
});

describe('diagnostics channels', () => {
  test('carry the same, with the volume, whether or not anybody listens to the volume', async () => {
    const messages = published();
    const { device, volume } = await open({ onFailure: 'lose-block' });
    const snapshot = await volume.createSnapshot();
    await volume.write(0, filled(1));
    device.failOn({ kind: 'read' });
    await volume.write(BLOCK, filled(1));
    await turn();
    expect(messages.map(({ channel }) => channel)).toEqual([
      'cow-cloud-backup:volume:snapshot-begun',
      'cow-cloud-backup:volume:block-preserved',
      'cow-cloud-backup:volume:block-lost',
    ]);
    for (const { message } of messages) expect(message).toMatchObject({ volume, snapshot });
    expect(messages[0]?.message.blocks).toBeUndefined();
    expect(messages[1]?.message.blocks).toEqual({ firstBlock: 0, blockCount: 1 });
    expect(messages[2]?.message.blocks).toEqual({ firstBlock: 1, blockCount: 1 });
    expect(codesOf(messages[2]?.message.error)).toEqual(['PRESERVE_FAILED', 'DEVICE_IO']);
  });

  test('tell of a broken snapshot with its error', async () => {
    const messages = published();
    const { volume } = await open({ memoryBytes: 0, spillBytes: 0, onFailure: 'break-snapshot' });
    const snapshot = await volume.createSnapshot();
    await volume.write(0, filled(1));
    await turn();
    expect(messages.at(-1)).toMatchObject({
      channel: 'cow-cloud-backup:volume:snapshot-broken',
      message: { volume, snapshot, error: snapshot.error },
    });
    expect(codesOf(snapshot.error)[0]).toBe('SNAPSHOT_BROKEN');
  });
});

describe('a listener that throws', () => {
  const program = fileURLToPath(new URL('support/throwing-listener-process.ts', import.meta.url));

  function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    return new Promise((resolve) => {
      execFile(process.execPath, ['--disable-warning=ExperimentalWarning', program, ...args], (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      );
    });
  }

  test("rejects no write, keeps no other listener from hearing, and is the process's uncaught exception", async () => {
    const { code, stdout } = await run('catch');
    expect(code).toBe(0);
    const order = JSON.parse(stdout) as string[];
    expect(order.toSorted()).toEqual([
      'the next listener is called',
      'the snapshot reads 1, the volume 3',
      'the write has resolved',
      "uncaughtException: the host's mistake",
    ]);
    // On the next tick: not in the middle of the telling.
    expect(order.indexOf('the next listener is called')).toBeLessThan(
      order.indexOf("uncaughtException: the host's mistake"),
    );
  });

  test('of a host that does not look after it ends the process, as any mistake does', async () => {
    const { code, stderr } = await run();
    expect(code).toBe(1);
    expect(stderr).toContain("the host's mistake");
  });

  test('on a channel does not reject a write either', async () => {
    const uncaught: unknown[] = [];
    const before = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => uncaught.push(error));
    onTestFinished(() => {
      process.removeAllListeners('uncaughtException');
      for (const listener of before) process.on('uncaughtException', listener);
    });
    const mistake = new Error('a subscriber failed');
    const onMessage = () => {
      throw mistake;
    };
    const channel = 'cow-cloud-backup:volume:block-preserved';
    subscribe(channel, onMessage);
    onTestFinished(() => {
      unsubscribe(channel, onMessage);
    });
    const volume = await CopyOnWriteVolume.open(new MemoryDevice(new Uint8Array(BLOCK).fill(1)), { blockSize: BLOCK });
    const snapshot = await volume.createSnapshot();
    await volume.write(0, filled(2));
    await turn();
    expect(uncaught).toEqual([mistake]);
    await expectFilled(snapshot, 1, 0);
  });
});
