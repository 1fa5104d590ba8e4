import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { CloudTarget, PutOptions } from '../../../src/targets/cloud-target.ts';
import { fanOut } from '../../../src/targets/decorators/fan-out.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { contentOfBackup, createIn, openIn, openVolume, writeBlock } from '../../repository/support/repositories.ts';
import { keysOf } from '../../support/keys-of.ts';
import { bytes } from './support/targets.ts';

/** A replica that can be unplugged, and notes what is put. */
class Pluggable extends ForwardingTarget {
  isUnplugged = false;
  /** Puts that are still let through; then the process dies. */
  putsLeft = Number.POSITIVE_INFINITY;
  readonly puts: { key: string; createOnly: boolean }[] = [];
  onPut: (key: string) => Promise<void> = async () => {};

  constructor(inner: CloudTarget = new MemoryTarget()) {
    super(inner, 'this replica');
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    if (this.isUnplugged || this.putsLeft-- <= 0) throw new BackupError('TARGET_UNREACHABLE', 'unplugged');
    await this.onPut(key);
    await super.forwardPut(key, body, options);
    this.puts.push({ key, createOnly: options.createOnly ?? false });
  }

  protected override async forwardDelete(key: string): Promise<void> {
    if (this.isUnplugged) throw new BackupError('TARGET_UNREACHABLE', 'unplugged');
    await super.forwardDelete(key, {});
  }

  protected override async forwardDeleteMany(keys: readonly string[]): Promise<void> {
    if (this.isUnplugged) throw new BackupError('TARGET_UNREACHABLE', 'unplugged');
    await super.forwardDeleteMany(keys, {});
  }
}

async function contentsOf(target: CloudTarget): Promise<Record<string, string>> {
  const contents: Record<string, string> = {};
  for await (const { key } of target.list('')) contents[key] = Buffer.from(await target.get(key)).toString('hex');
  return contents;
}

function pair() {
  const primary = new MemoryTarget();
  const replica = new Pluggable();
  return { primary, replica, target: fanOut(primary, [replica], { quorum: 1 }) };
}

describe('synchronize', () => {
  test('copies what a replica missed, in whole and in another length, and nothing else', async () => {
    const { primary, replica, target } = pair();
    for (const key of ['a', 'b', 'c']) await target.put(key, bytes(1));
    replica.isUnplugged = true;
    await target.put('b', bytes(1, 2, 3));
    await target.put('bb', bytes(4, 5));
    await target.put('z', bytes());
    replica.isUnplugged = false;
    replica.puts.length = 0;
    expect(await target.synchronize()).toEqual([
      { copiedObjects: 3, copiedBytes: 5, extraObjects: 0, extraBytes: 0, deletedObjects: 0 },
    ]);
    expect(replica.puts.sort((one, other) => (one.key < other.key ? -1 : 1))).toEqual([
      { key: 'b', createOnly: false },
      { key: 'bb', createOnly: true },
      { key: 'z', createOnly: true },
    ]);
    expect(await contentsOf(replica)).toEqual(await contentsOf(primary));
    expect(await target.synchronize()).toMatchObject([{ copiedObjects: 0 }]);
  });

  test('leaves what only a replica has, unless it is to delete it', async () => {
    const { replica, target } = pair();
    for (const key of ['a', 'b', 'c', 'd']) await target.put(key, bytes(1, 2));
    replica.isUnplugged = true;
    for (const key of ['a', 'c', 'd']) await target.delete(key);
    replica.isUnplugged = false;
    const extra = { copiedObjects: 0, copiedBytes: 0, extraObjects: 3, extraBytes: 6 };
    expect(await target.synchronize()).toEqual([{ ...extra, deletedObjects: 0 }]);
    expect(await keysOf(replica)).toEqual(['a', 'b', 'c', 'd']);
    expect(await target.synchronize({ deleteExtras: true })).toEqual([{ ...extra, deletedObjects: 3 }]);
    expect(await keysOf(replica)).toEqual(['b']);
  });

  test('deletes nothing that the primary has got since it was listed', async () => {
    const { primary, replica, target } = pair();
    await replica.put('x', bytes(1));
    await primary.put('a', bytes(1));
    // Between the listing and the deletion.
    replica.onPut = async () => void (await primary.put('x', bytes(2)));
    await target.synchronize({ deleteExtras: true });
    expect(await keysOf(replica)).toEqual(['a', 'x']);
  });

  test('does not bring back what is deleted while it is copied', async () => {
    const { primary, replica, target } = pair();
    await primary.put('a', bytes(1));
    replica.onPut = async () => void (await target.delete('a'));
    await target.synchronize();
    expect(await keysOf(replica)).toEqual([]);
  });

  test('copies again what is replaced while it is copied', async () => {
    let now = 0;
    const primary = new MemoryTarget({ now: () => now++ });
    const replica = new Pluggable(new MemoryTarget({ createOnly: false }));
    const target = fanOut(primary, [replica]);
    await primary.put('a', bytes(1));
    let replaced = false;
    replica.onPut = async () => {
      if (replaced) return;
      replaced = true;
      await target.put('a', bytes(2));
    };
    await target.synchronize();
    expect(await replica.get('a')).toEqual(bytes(2));
  });

  test('does not overtake a put with the copy of what it replaced', async () => {
    const { replica, target } = pair();
    replica.isUnplugged = true;
    await target.put('a', bytes(1));
    replica.isUnplugged = false;
    const work = target.synchronize();
    await target.put('a', bytes(2));
    await work;
    expect(await replica.get('a')).toEqual(bytes(2));
  });

  test('gives an object up that changes all the time', async () => {
    let now = 0;
    const primary = new MemoryTarget({ now: () => now++ });
    const replica = new Pluggable();
    await primary.put('a', bytes(1));
    replica.onPut = async () => void (await primary.put('a', bytes(now % 250)));
    const work = fanOut(primary, [replica]).synchronize();
    await expect(work).rejects.toMatchObject({ code: 'OBJECT_CONFLICT', retryable: true });
  });

  test('of several replicas does what it can, reports who failed and rejects with that', async () => {
    const primary = new MemoryTarget();
    const broken = new Pluggable();
    broken.isUnplugged = true;
    const last = new MemoryTarget();
    const failures: unknown[] = [];
    const target = fanOut(primary, [broken, last], { onReplicaError: (_error, about) => failures.push(about) });
    await primary.put('a', bytes(1));
    await expect(target.synchronize()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(await keysOf(last)).toEqual(['a']);
    expect(failures).toEqual([{ replica: 0, operation: 'synchronize', subject: 'the store' }]);
  });

  test('stops when it is aborted, tells how far it got, and is refused when closed', async () => {
    const { primary, target, replica } = pair();
    for (let n = 0; n < 50; n++) await primary.put(`k${n}`, bytes(1));
    const controller = new AbortController();
    const seen: number[] = [];
    const onProgress = ({ copiedObjects }: { copiedObjects: number }) => {
      seen.push(copiedObjects);
      if (copiedObjects === 3) controller.abort(new Error('enough'));
    };
    await expect(target.synchronize({ onProgress, signal: controller.signal, concurrency: 1 })).rejects.toThrow(
      'enough',
    );
    expect(seen).toEqual([1, 2, 3]);
    expect(await keysOf(replica)).toHaveLength(3);
    await target.close();
    await expect(target.synchronize()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('refuses options that it does not know, and values of another type', async () => {
    const { target } = pair();
    await expect(target.synchronize({ deleteExtra: true } as never)).rejects.toThrow(/did you mean deleteExtras/);
    await expect(target.synchronize({ deleteExtras: 1 } as never)).rejects.toThrow(TypeError);
    await expect(target.synchronize({ concurrency: 0 })).rejects.toThrow(TypeError);
    await expect(target.synchronize({ onProgress: true as never })).rejects.toThrow(TypeError);
    expect(() => fanOut(new MemoryTarget(), [undefined as never])).toThrow(/replicas\[0\] must be a CloudTarget/);
    expect(() => fanOut(new MemoryTarget(), new MemoryTarget() as never)).toThrow(/replicas must be an array/);
    expect(() => fanOut('memory' as never, [])).toThrow(/primary must be a CloudTarget/);
    expect(() => fanOut(new MemoryTarget(), [], { quorums: 1 } as never)).toThrow(/did you mean quorum/);
  });
});

describe('a replica that was used by itself', () => {
  test.each([
    ['has an entry that the primary has not', 'log/8', bytes(1)],
    ['has another entry of the same key and length', 'log/9', bytes(7)],
    ['has another entry of the same key', 'log/9', bytes(7, 8)],
  ])('and %s is left alone', async (_name, key, body) => {
    const { primary, replica, target } = pair();
    await target.put('log/9', bytes(1));
    await replica.put(key, body);
    await primary.put('packs/new', bytes(1));
    await replica.put('packs/own', bytes(1));
    const before = await contentsOf(replica);
    const work = target.synchronize({ deleteExtras: true });
    await expect(work).rejects.toMatchObject({ code: 'REPLICA_DIVERGED', retryable: false });
    expect(await contentsOf(replica)).toEqual(before);
  });

  test('is told from one that missed the deletion of old entries', async () => {
    const { primary, replica, target } = pair();
    for (const key of ['log/9', 'log/8', 'log/7']) await target.put(key, bytes(1));
    await primary.delete('log/9');
    expect(await target.synchronize()).toMatchObject([{ copiedObjects: 0 }]);
    expect(await keysOf(replica)).toContain('log/9');
  });

  test('is told from one that missed the deletion of some of them, also where a number was taken again', async () => {
    const { primary, target } = pair();
    for (const key of ['log/3', 'log/3-c', 'log/5', 'log/5-c', 'log/6', 'log/7', 'log/8'])
      await target.put(key, bytes(1));
    for (const key of ['log/6', 'log/7']) await primary.delete(key);
    expect(await target.synchronize()).toMatchObject([{ copiedObjects: 0 }]);
    await primary.delete('log/3-c');
    await primary.delete('log/3');
    await expect(target.synchronize()).rejects.toMatchObject({ code: 'REPLICA_DIVERGED' });
  });
});

describe('a repository on a replica that is being brought up to date', () => {
  test('is at every moment one that opens, and of which every backup is whole', { timeout: 120_000 }, async () => {
    const primary = new MemoryTarget();
    const store = new MemoryTarget();
    const replica = new Pluggable(store);
    const target = fanOut(primary, [replica], { quorum: 1 });
    await using repository = await createIn(target, true);
    const { device, volume } = await openVolume(20);
    const contents = new Map<string, Buffer>();
    const backup = async () => {
      await writeBlock(volume, contents.size % 20);
      const { id } = await repository.backup(volume, { volume: 'disk' });
      contents.set(id, Buffer.from(device.bytes));
    };
    for (let round = 0; round < 2; round++) await backup();
    replica.isUnplugged = true;
    for (let round = 0; round < 35; round++) await backup(); // Past a checkpoint.
    replica.isUnplugged = false;
    let opened = 0;
    for (let step = 0; ; step++) {
      replica.putsLeft = 1;
      const done = await target.synchronize({ concurrency: 1 }).then(
        () => true,
        () => false,
      );
      await using copy = await openIn(store, true);
      const backups = await Array.fromAsync(copy.listBackups());
      if (done) expect(backups).toHaveLength(37);
      if (done || step % 10 === 0) {
        const { ok, damaged } = await copy.verify({ depth: 'data', quarantine: false });
        expect({ ok, damaged, step }).toEqual({ ok: true, damaged: [], step });
        const newest = backups[0]!;
        expect(Buffer.compare(await contentOfBackup(copy, newest.id), contents.get(newest.id)!)).toBe(0);
        opened++;
      }
      if (done) break;
    }
    expect(opened).toBeGreaterThan(5);
    const wanted = await contentsOf(primary);
    delete wanted['cache/verified']; // Written by `verify` on the replica above.
    expect(await contentsOf(store)).toMatchObject(wanted);
  });

  test('is whole although others forget and prune while its packs are copied', async () => {
    const primary = new MemoryTarget();
    const store = new MemoryTarget();
    const replica = new Pluggable(store);
    const target = fanOut(primary, [replica], { quorum: 1 });
    await using repository = await createIn(target);
    const { volume } = await openVolume(20);
    const ids: string[] = [];
    for (let round = 0; round < 3; round++) {
      ids.push((await repository.backup(volume, { volume: 'disk' })).id);
      for (let block = 0; block < 20; block++) await writeBlock(volume, block);
    }
    for await (const { key } of store.list('packs/')) await store.delete(key); // The puts of packs alone were missed.
    await using other = await openIn(primary);
    let puts = 0;
    replica.onPut = async () => {
      if (++puts !== 2) return;
      await other.forget(ids.slice(0, 2));
      for (let run = 0; run < 2; run++) await other.prune({ graceMs: 0 });
    };
    await target.synchronize({ concurrency: 1 });
    await using copy = await openIn(store, false, { readOnly: true });
    expect((await Array.fromAsync(copy.listBackups())).map(({ id }) => id)).toEqual(ids.slice(2));
    expect(await copy.verify({ depth: 'data' })).toMatchObject({ ok: true, damaged: [] });
  });

  test('a new replica is filled while backups go on', async () => {
    const primary = new MemoryTarget();
    const { volume } = await openVolume(20);
    {
      await using repository = await createIn(primary, true);
      for (let round = 0; round < 3; round++) {
        await repository.backup(volume, { volume: 'disk' });
        await writeBlock(volume, round);
      }
    }
    const store = new MemoryTarget();
    const replica = new Pluggable(store);
    const target = fanOut(primary, [replica]);
    await using repository = await openIn(target, true);
    let puts = 0;
    replica.onPut = async () => {
      if (++puts !== 3) return;
      await repository.backup(volume, { volume: 'disk' });
    };
    await target.synchronize();
    await using copy = await openIn(store, true);
    expect(await Array.fromAsync(copy.listBackups())).toHaveLength(4);
    expect(await copy.verify({ depth: 'data' })).toMatchObject({ ok: true });
  });
});
