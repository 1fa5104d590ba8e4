import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { entryKey } from '../../../src/repository/format/object-keys.ts';
import type { LogWriter } from '../../../src/repository/log/log-writer.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { counted, host, logOf, objectsOf, targetOf } from './support/hosts.ts';
import { idsOf, runJob } from './support/jobs.ts';

/** A success is believed after a listing that shows the entry, and those before it. */

const keysFact: LogFact = { type: 'keys', added: [], removed: [] };
const rolledBack = withCode('REPOSITORY_ROLLED_BACK');

/** A folder whose disk may be unmounted, and mounted again: what is written meanwhile is beneath. */
class MountPoint extends ForwardingTarget {
  #mounted: CloudTarget;
  constructor(mounted: CloudTarget) {
    super(mounted, 'this mount point');
    this.#mounted = mounted;
  }
  mount(target: CloudTarget): void {
    this.#mounted = target;
  }
  override put(...args: Parameters<CloudTarget['put']>) {
    return this.#mounted.put(...args);
  }
  override get(...args: Parameters<CloudTarget['get']>) {
    return this.#mounted.get(...args);
  }
  override stat(...args: Parameters<CloudTarget['stat']>) {
    return this.#mounted.stat(...args);
  }
  override async *list(...args: Parameters<CloudTarget['list']>) {
    yield* this.#mounted.list(...args);
  }
}

describe.each([['shared'], ['single-writer']] as const)('%s mode: a disk that vanished', (mode) => {
  const store = () => new MemoryTarget({ createOnly: mode === 'shared' });

  test.each([
    ['before the session opens', 0],
    ['after the session opened', 1],
  ])('%s: no backup succeeds; once it is back, the next one does', async (_when, opened) => {
    const disk = store();
    const folder = new MountPoint(disk);
    const writer = await host(folder, { mode });
    for (let n = 0; n < 3; n++) await runJob(writer);
    const { position } = writer;
    const before = idsOf(writer.state);
    if (opened === 0) folder.mount(store());
    const job = runJob(writer, { beforeCommit: async () => folder.mount(store()) });
    await expect(job).rejects.toMatchObject({
      code: expect.stringMatching(/REPOSITORY_ROLLED_BACK|COMMIT_UNKNOWN/),
    });
    expect(writer.position.seq).toBeLessThanOrEqual(position.seq + 1);
    await expect(writer.catchUp()).rejects.toEqual(rolledBack);
    await expect(writer.append(() => keysFact)).rejects.toEqual(rolledBack);
    folder.mount(disk);
    const { id } = await runJob(writer, { takeOver: [7] });
    expect(idsOf((await host(disk, { mode })).state)).toEqual([...before, id]);
  });

  test('a target that was swapped for an older copy, or for another log, is noticed by a commit and by a look', async () => {
    const disk = store();
    const folder = new MountPoint(disk);
    const writer = await host(folder, { mode });
    await runJob(writer);
    const older = store();
    for (const [key, body] of await objectsOf(disk)) await older.put(key, body);
    await runJob(writer);
    folder.mount(older);
    await expect(writer.catchUp()).rejects.toEqual(rolledBack);
    await expect(runJob(writer)).rejects.toMatchObject({
      code: expect.stringMatching(/COMMIT_UNKNOWN|ROLLED_BACK/),
    });
    folder.mount(store());
    await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toMatchObject({
      code: expect.stringMatching(/COMMIT_UNKNOWN|ROLLED_BACK/),
    });
  });
});

test('a log in which the entry before one’s own is another one is noticed by its size', async () => {
  const disk = await logOf([keysFact, keysFact]);
  const folder = new MountPoint(disk);
  const writer = await host(folder);
  const objects = await objectsOf(disk);
  const longer = await logOf([keysFact, { type: 'keys', added: ['0123456789abcdef'], removed: [] }]);
  folder.mount(await targetOf(objects.set(entryKey(2), (await objectsOf(longer)).get(entryKey(2))!)));
  await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toMatchObject({
    code: 'COMMIT_UNKNOWN',
    cause: { code: 'REPOSITORY_ROLLED_BACK' },
  });
});

describe('a log that was set back, and went on in another way', () => {
  /** Its entries have one time: an entry is shorter if its time is that of the one before. */
  const hostAtOneTime = (target: CloudTarget) => host(target, { now: () => 1_800_000_000_000 });
  const keyAdded = (id: string): LogFact => ({ type: 'keys', added: [id.repeat(16)], removed: [] });
  /** Its clock goes on by a second with each look at it. */
  const store = (startMs: number) => {
    let ms = startMs;
    const target = new MemoryTarget({ now: () => (ms += 1000) });
    return Object.assign(new MountPoint(target), { list: withoutDigests(target) });
  };
  /** As most stores list. */
  const withoutDigests = (target: CloudTarget): CloudTarget['list'] =>
    async function* (prefix, options) {
      for await (const { sha256: _, ...info } of target.list(prefix, options)) yield info;
    };
  const copyOf = async (from: CloudTarget, startMs: number) => {
    const to = store(startMs);
    for (const [key, body] of await objectsOf(from)) await to.put(key, body);
    return to;
  };

  /** A copy that went on up to an entry. */
  const goneOn = async (from: CloudTarget, newest: number) => {
    const copy = await copyOf(from, 1_000_000);
    const other = await hostAtOneTime(copy);
    while (other.state.seq < newest) await other.append(() => keyAdded('c'));
    return copy;
  };

  /**
   * Makes two stores until entry 2 has the same size in both: what is random in an entry takes a byte more or less when it is
   * compressed. Both are made again each time, because no other entry might ever have the size of one that is an outlier.
   */
  const withSameSize = async <T extends { readonly disk: CloudTarget; readonly copy: CloudTarget }>(
    make: () => Promise<T>,
  ): Promise<T> => {
    const sizeIn = async (each: CloudTarget) => (await each.stat(entryKey(2)))?.size;
    for (;;) {
      const made = await make();
      if ((await sizeIn(made.copy)) === (await sizeIn(made.disk))) return made;
    }
  };

  test('an entry of the same size in place of the one before is another one', async () => {
    const { folder, writer, copy } = await withSameSize(async () => {
      const disk = store(0);
      const folder = new MountPoint(disk);
      const writer = await hostAtOneTime(folder);
      await writer.append(() => keyAdded('a'));
      const before = await copyOf(disk, 1_000_000);
      await writer.append(() => keyAdded('b'));
      return { disk, folder, writer, copy: await goneOn(before, 2) };
    });
    folder.mount(copy);
    await expect(writer.append(() => keyAdded('d'), { lookFirst: false })).rejects.toMatchObject({
      code: 'COMMIT_UNKNOWN',
      cause: { code: 'REPOSITORY_ROLLED_BACK' },
    });
    await expect(writer.catchUp()).rejects.toEqual(rolledBack);
  });

  test('gets no entry of a process that has noticed: others can open it', async () => {
    const disk = store(0);
    const folder = new MountPoint(disk);
    const writer = await host(folder);
    await writer.append(() => keyAdded('a'));
    const before = await copyOf(disk, 1_000_000);
    await writer.append(() => keyAdded('b'));
    await writer.append(() => keyAdded('c'));
    folder.mount(before);
    await expect(writer.catchUp()).rejects.toEqual(rolledBack);
    await expect(writer.append(() => keyAdded('d'), { lookFirst: false })).rejects.toEqual(rolledBack);
    expect((await host(before)).state.seq).toBe(1);
  });

  test('so is an own entry that was not confirmed, where its size differs', async () => {
    const disk = store(0);
    const folder = new MountPoint(disk);
    const writer = await hostAtOneTime(folder);
    await writer.append(() => keyAdded('a'));
    const old = await copyOf(disk, 1_000_000);
    await writer.append(() => keyAdded('b'), { confirm: false });
    await (await hostAtOneTime(old)).append(() => keysFact);
    folder.mount(old);
    await expect(writer.append(() => keyAdded('d'), { lookFirst: false })).rejects.toMatchObject({
      code: 'COMMIT_UNKNOWN',
      cause: { code: 'REPOSITORY_ROLLED_BACK' },
    });
  });

  /** A host that appends an entry without confirming it, and the store as it was before. */
  const withUnconfirmed = async (append: (writer: LogWriter, disk: CloudTarget) => Promise<unknown>) => {
    const disk = store(0);
    const folder = new MountPoint(disk);
    const writer = await hostAtOneTime(folder);
    await writer.append(() => keyAdded('a'));
    const old = await copyOf(disk, 1_000_000);
    await append(writer, folder);
    return { disk, folder, writer, old };
  };
  const unknown = { code: 'COMMIT_UNKNOWN', cause: { code: 'REPOSITORY_ROLLED_BACK' } };

  test.each([
    ['its put has returned', (writer: LogWriter) => writer.append(() => keyAdded('b'), { confirm: false })],
    [
      'it had when it was read after a lost answer',
      async (writer: LogWriter, folder: CloudTarget) => {
        const { put } = folder;
        folder.put = async (...args) => {
          folder.put = put;
          await put.apply(folder, args);
          throw new BackupError('TARGET_UNAVAILABLE', 'no answer');
        };
        await writer.append(() => keyAdded('b'), { confirm: false });
      },
    ],
    [
      'it had when it was read as the entry of another host',
      async (writer: LogWriter, folder: CloudTarget) => {
        await (await hostAtOneTime(folder)).append(() => keyAdded('b'));
        await writer.append(() => keyAdded('e'), { lookFirst: false, confirm: false });
      },
    ],
  ])('so is an entry that was not confirmed, of the same size, and with another tag than %s', async (_tag, append) => {
    const { folder, writer, copy } = await withSameSize(async () => {
      const made = await withUnconfirmed(append);
      return { ...made, copy: await goneOn(made.old, made.writer.state.seq) };
    });
    folder.mount(copy);
    await expect(writer.append(() => keyAdded('d'), { lookFirst: false })).rejects.toMatchObject(unknown);
  });

  test('an entry that was not confirmed is the same with another tag, if its object is: it is read', async () => {
    const { folder, writer, old, disk } = await withUnconfirmed((each) =>
      each.append(() => keyAdded('b'), { confirm: false }),
    );
    await old.put(entryKey(2), Uint8Array.from(await disk.get(entryKey(2))));
    const copy = counted(old);
    folder.mount(copy);
    expect((await writer.append(() => keyAdded('d'), { lookFirst: false }))?.entry.seq).toBe(3);
    expect(copy.calls.map(({ operation }) => operation)).toEqual(['put', 'list', 'get', 'get']);
  });

  test('an entry that was not confirmed is not read where the listing has its tag', async () => {
    const { folder, writer, disk } = await withUnconfirmed((each) =>
      each.append(() => keyAdded('b'), { confirm: false }),
    );
    const same = counted(disk);
    folder.mount(same);
    expect((await writer.append(() => keyAdded('d'), { lookFirst: false }))?.entry.seq).toBe(3);
    expect(same.calls.map(({ operation }) => operation)).toEqual(['put', 'list']);
  });

  test('a copy with other modification times is the same log: the newest entry is read once', async () => {
    const disk = store(0);
    const writer = await hostAtOneTime(new MountPoint(disk));
    await writer.append(() => keyAdded('a'));
    const copy = counted(await copyOf(disk, 1_000_000));
    const folder = new MountPoint(disk);
    const reader = await hostAtOneTime(folder);
    folder.mount(copy);
    for (let n = 0; n < 3; n++) expect((await reader.catchUp()).seq).toBe(1);
    expect(copy.calls.map(({ operation }) => operation)).toEqual(['list', 'get', 'list', 'list']);
  });
});

test('a listing that fails leaves the commit unknown; the next look shows it, and it is there once', async () => {
  const target = new MemoryTarget();
  let isDown = false;
  const faulty = counted(target, {
    next: ({ operation }) => (operation === 'list' && isDown ? { kind: 'fail-before' } : undefined),
  });
  const writer = await host(faulty, { attempts: 3 });
  await runJob(writer);
  isDown = true;
  await expect(runJob(writer)).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
  expect(writer.position.seq).toBe(2);
  isDown = false;
  expect((await writer.catchUp()).seq).toBe(4);
  expect(idsOf(writer.state)).toHaveLength(2);
});

test('one listing that lacks the entry is no proof: another one is asked for', async () => {
  const target = await logOf([keysFact]);
  let listings = 0;
  const folder = new MountPoint(target);
  const writer = await host(folder);
  folder.list = async function* (prefix, options) {
    listings++;
    if (listings > 1) yield* target.list(prefix, options);
  };
  expect((await writer.append(() => keysFact, { lookFirst: false }))?.entry.seq).toBe(2);
  expect(listings).toBe(2);
});

test('a listing that lacks the new entry every time leaves the commit unknown', async () => {
  const target = await logOf([keysFact]);
  const folder = new MountPoint(target);
  const writer = await host(folder);
  folder.list = async function* (prefix, options) {
    for await (const info of target.list(prefix, options)) if (info.key !== entryKey(2)) yield info;
  };
  await expect(writer.append(() => keysFact, { lookFirst: false })).rejects.toEqual(withCode('COMMIT_UNKNOWN'));
});

test("another's entry on top is folded in, and confirms the one below", async () => {
  const target = new MemoryTarget();
  const other = await host(target);
  const faulty = counted(target);
  const writer = await host(faulty);
  const put = faulty.put.bind(faulty);
  faulty.put = async (...args) => {
    await put(...args);
    await other.append(() => keysFact);
  };
  const appended = await writer.append(() => keysFact, { lookFirst: false });
  expect([appended?.entry.seq, appended?.state.seq, writer.state.seq]).toEqual([1, 1, 2]);
});

test('a clock that no date can hold is named before anything is written', async () => {
  for (const now of [-1, Number.NaN, Infinity, 8.64e15 + 1]) {
    const target = new MemoryTarget();
    const writer = await host(target, { now: () => now });
    await expect(writer.append(() => keysFact)).rejects.toMatchObject({
      code: 'CLOCK_WRONG',
      message: expect.stringMatching(/clock/),
    });
    expect((await objectsOf(target)).size).toBe(0);
  }
});

test('a budget that holds for what was sent does not keep its outcome from being learned', async () => {
  const { metered, RequestMeter } = await import('../../../src/targets/decorators/request-meter.ts');
  const { MeteredTarget } = await import('../../../src/targets/decorators/request-meter.ts');
  const writer = await host(new MeteredTarget(new MemoryTarget()));
  const meter = new RequestMeter({ puts: 1, gets: 0 });
  const appended = await metered(meter, () => writer.append(() => keysFact, { lookFirst: false }));
  expect(appended?.entry.seq).toBe(1);
});
