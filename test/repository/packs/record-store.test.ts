import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { type Location, RecordKind } from '../../../src/repository/format/record.ts';
import { RecordStore } from '../../../src/repository/packs/record-store.ts';
import { MeteredTarget, metered, RequestMeter } from '../../../src/targets/decorators/request-meter.ts';
import { randomBytes } from '../../support/randomness.ts';
import { errorOf, isSettled } from '../../volume/support/bytes.ts';
import { BLOCK, collector, FAN_OUT, Packed } from './support/packed-records.ts';

const noTally = () => ({ fetchedBytes: 0, requests: 0 });
const chunk = (bytes = 500) => Uint8Array.from(randomBytes(bytes));
/** Any kind whose id is over all of its bytes. */
const KIND = RecordKind.table;
const turns = (count: number) =>
  Array.from({ length: count }).reduce<Promise<void>>(
    (before) => before.then(() => new Promise((resolve) => setImmediate(resolve))),
    Promise.resolve(),
  );

describe.each([{ isEncrypted: false }, { isEncrypted: true }])('blocks, encrypted: $isEncrypted', ({ isEncrypted }) => {
  test('that stand together come with one request, in whatever order they are wanted', async () => {
    const packed = new Packed({ isEncrypted });
    const { wanted, raws } = await packed.blocks(20);
    const { blocks, deliver, tally } = collector();
    await packed.store.readBlocks(wanted.toReversed(), deliver, tally);
    expect(packed.target.gets).toHaveLength(1);
    for (const [block, raw] of raws.entries()) expect(Buffer.compare(blocks.get(block)!, raw)).toBe(0);
    expect(tally.requests).toBe(1);
    expect(tally.fetchedBytes).toBe(wanted.reduce((sum, { entry }) => sum + entry.location.storedLength, 0));
  });

  test('that were moved are read where they are now, by a table that is read once', async () => {
    const packed = new Packed({ isEncrypted });
    const { wanted, raws } = await packed.blocks(6);
    const { relocation } = await packed.move(wanted.slice(0, 4).map(({ entry }) => entry));
    await packed.drop(relocation.pack);
    packed.state = packed.moved(relocation);
    for (const from of [0, 2]) {
      const { blocks, deliver } = collector();
      await packed.store.readBlocks(wanted.slice(from, from + 2), deliver, noTally());
      for (const block of [from, from + 1]) expect(Buffer.compare(blocks.get(block)!, raws[block]!)).toBe(0);
    }
    expect(packed.target.gets).toHaveLength(3);
    expect(packed.looks).toBe(0);
  });

  test('that were moved are read where they are now, also while the old pack is still there', async () => {
    const packed = new Packed({ isEncrypted });
    const { wanted, raws } = await packed.blocks(2);
    const { relocation, places } = await packed.move(wanted.map(({ entry }) => entry));
    await packed.spoil(relocation.pack, (bytes) => bytes.fill(0));
    packed.state = packed.moved(relocation);
    const { blocks, deliver } = collector();
    await packed.store.readBlocks(wanted, deliver, noTally());
    for (const block of [0, 1]) expect(Buffer.compare(blocks.get(block)!, raws[block]!)).toBe(0);
    const read = packed.target.gets.map((get) => get.split(' ')[0]);
    expect(read).toEqual([packKey(relocation.location.pack), packKey(places[0]!.pack)]);
  });

  test('a row of another stored length leads nowhere', async () => {
    const packed = new Packed({ isEncrypted });
    const { wanted, raws } = await packed.blocks(2);
    const [first, second] = wanted.map(({ entry }) => entry.location) as [Location, Location];
    const { relocation } = await packed.move(wanted.map(({ entry }) => entry));
    packed.state = packed.moved(relocation);
    const longer = {
      ...wanted[0]!,
      entry: { ...wanted[0]!.entry, location: { ...first, storedLength: second.storedLength - 1, codec: 1 as const } },
    };
    expect(
      await errorOf(
        packed.store.readBlocks([longer], () => {}, noTally()),
        'RECORD_CORRUPT',
      ),
    ).toBeDefined();
    expect(packed.target.gets.some((get) => get.startsWith(packKey(first.pack)))).toBe(true);
    const { blocks, deliver } = collector();
    await packed.store.readBlocks(wanted, deliver, noTally());
    expect(Buffer.compare(blocks.get(1)!, raws[1]!)).toBe(0);
  });
});

describe('blocks', () => {
  test('come together over a small gap, and by themselves over a large one', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(8);
    await packed.store.readBlocks([wanted[0]!, wanted[2]!, wanted[6]!], () => {}, noTally());
    const [first, second] = packed.target.gets.map((get) => Number(get.split('+')[1]));
    expect(packed.target.gets).toHaveLength(2);
    expect([first, second]).toEqual([3 * BLOCK, BLOCK]);
  });

  test('come with requests of 8 MiB at most, eight of them and 32 MiB at a time', async () => {
    const packed = new Packed();
    packed.target.before = () => turns(2);
    const large = await packed.blocks(10, 4 * 1024 * 1024);
    await packed.store.readBlocks(large.wanted, () => {}, noTally());
    expect(packed.target.gets).toHaveLength(5);
    expect(packed.target.most).toBe(4);
    expect(packed.target.mostBytes).toBe(32 * 1024 * 1024);
    packed.target.most = 0;
    const small = await Promise.all(Array.from({ length: 30 }, () => packed.blocks(1, 1000)));
    await packed.store.readBlocks(
      small.map(({ wanted }) => wanted[0]!),
      () => {},
      noTally(),
    );
    expect(packed.target.most).toBe(8);
  });

  test('of one content, which are one record, are delivered each', async () => {
    const packed = new Packed();
    const { wanted, raws } = await packed.blocks(2);
    const { blocks, deliver } = collector();
    const same = [0, 7, 9].map((block) => ({ block, entry: wanted[0]!.entry }));
    await packed.store.readBlocks([...same, { ...wanted[1]!, block: 8 }], deliver, noTally());
    for (const block of [0, 7, 9]) expect(Buffer.compare(blocks.get(block)!, raws[0]!)).toBe(0);
    expect(Buffer.compare(blocks.get(8)!, raws[1]!)).toBe(0);
  });

  test('let everything else of the process run while they are opened', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(512);
    let turnsSeen = 0;
    let delivered = 0;
    const count = () => {
      turnsSeen++;
      if (delivered < 512) setImmediate(count);
    };
    const deliver = () => {
      if (delivered++ === 0) setImmediate(count);
    };
    await packed.store.readBlocks(wanted, deliver, noTally());
    expect(packed.target.gets).toHaveLength(4);
    expect(turnsSeen).toBeGreaterThan(0); // How many depends on how fast the machine is.
  });

  test('are refused with the first failure, and none is delivered after it', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(30);
    const { pack, offset } = wanted[3]!.entry.location;
    await packed.spoil(pack, (bytes) => bytes.fill(0, offset, offset + 1));
    const { blocks, deliver } = collector();
    await errorOf(packed.store.readBlocks(wanted, deliver, noTally()), 'RECORD_CORRUPT');
    const count = blocks.size;
    expect(count).toBeLessThanOrEqual(3);
    await turns(20);
    expect(blocks.size).toBe(count);
  });

  test('that are damaged do not hide the others from who wants to go on', async () => {
    const packed = new Packed();
    const { wanted, raws } = await packed.blocks(30);
    const { pack, offset } = wanted[3]!.entry.location;
    await packed.spoil(pack, (bytes) => bytes.fill(bytes[offset]! ^ 1, offset, offset + 1));
    const { blocks, deliver } = collector();
    const failed = new Map<number, unknown>();
    const onFailed = (block: number, error: unknown) => failed.set(block, error);
    await packed.store.readBlocks(wanted, deliver, noTally(), { onFailed });
    expect([...failed.keys()]).toEqual([3]);
    expect(BackupError.is(failed.get(3), 'RECORD_CORRUPT')).toBe(true);
    expect(blocks.size).toBe(29);
    for (const [block, bytes] of blocks) expect(Buffer.compare(bytes, raws[block]!)).toBe(0);
  });

  test('before the end of a pack that was cut off can be read', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(32);
    const cut = wanted[20]!.entry.location;
    await packed.spoil(cut.pack, (bytes) => bytes.slice(0, cut.offset + 10));
    const { blocks, deliver } = collector();
    const failed: number[] = [];
    const onFailed = (block: number, error: unknown) => {
      expect(BackupError.is(error, 'PACK_MISSING')).toBe(true);
      failed.push(block);
    };
    await packed.store.readBlocks(wanted, deliver, noTally(), { onFailed });
    expect([...blocks.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, block) => block));
    expect(failed).toHaveLength(12);
    await errorOf(
      packed.store.readBlocks(wanted, () => {}, noTally()),
      'PACK_MISSING',
    );
  });

  test('of a pack that is not there are PACK_MISSING after one look at the log, the others are read', async () => {
    const packed = new Packed();
    const gone = await packed.blocks(400); // Several requests.
    const here = await packed.blocks(3);
    await packed.drop(gone.wanted[0]!.entry.location.pack);
    await errorOf(
      packed.store.readBlocks(gone.wanted.slice(0, 1), () => {}, noTally()),
      'PACK_MISSING',
    );
    expect(packed.looks).toBe(1);
    const { blocks, deliver } = collector();
    const failed: number[] = [];
    const others = here.wanted.map(({ block, entry }) => ({ block: 1000 + block, entry }));
    const onFailed = (block: number) => void failed.push(block);
    await packed.store.readBlocks([...gone.wanted, ...others], deliver, noTally(), { onFailed });
    expect(failed).toHaveLength(400);
    expect([...blocks.keys()]).toEqual([1000, 1001, 1002]);
  });

  test('that were moved and deleted a moment ago are found after a look at the log', async () => {
    const packed = new Packed();
    const { wanted, raws } = await packed.blocks(4);
    const { relocation } = await packed.move(wanted.map(({ entry }) => entry));
    await packed.drop(relocation.pack);
    packed.later.push(packed.moved(relocation));
    const { blocks, deliver } = collector();
    await packed.store.readBlocks(wanted, deliver, noTally());
    for (const [block, raw] of raws.entries()) expect(Buffer.compare(blocks.get(block)!, raw)).toBe(0);
    expect(packed.looks).toBe(1);
  });

  test('that are moved again and again while they are read are followed', async () => {
    const packed = new Packed();
    const { wanted, raws } = await packed.blocks(4);
    const old = wanted.map(({ entry }) => entry.location);
    const once = await packed.move(wanted.map(({ entry }) => entry));
    const places = once.places.map((location, index) => ({ location, id: wanted[index]!.entry.id }));
    const twice = await packed.move(places, old);
    await packed.drop(old[0]!.pack);
    await packed.drop(once.places[0]!.pack);
    packed.later.push(packed.moved(once.relocation));
    packed.later.push(packed.moved({ ...twice.relocation, pack: old[0]!.pack }));
    const { blocks, deliver } = collector();
    await packed.store.readBlocks(wanted, deliver, noTally());
    for (const [block, raw] of raws.entries()) expect(Buffer.compare(blocks.get(block)!, raw)).toBe(0);
    expect(packed.looks).toBe(2);
  });

  test('are found, though others that nobody needed went with the same pack', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(100);
    const far = wanted.filter(({ block }) => block % 4 === 0); // A request each.
    const { relocation } = await packed.move(far.slice(1).map(({ entry }) => entry));
    await packed.drop(relocation.pack);
    packed.later.push(packed.moved(relocation));
    const { blocks, deliver } = collector();
    const failed: number[] = [];
    await packed.store.readBlocks(far, deliver, noTally(), { onFailed: (block) => void failed.push(block) });
    expect(failed).toEqual([0]);
    expect(blocks.size).toBe(24);
  });

  test('are found though the table that was known is gone', async () => {
    const packed = new Packed();
    const { wanted, raws } = await packed.blocks(2);
    const once = await packed.move(wanted.map(({ entry }) => entry));
    const twice = await packed.move(wanted.map(({ entry }) => entry));
    await packed.drop(once.relocation.location.pack);
    packed.state = packed.moved(once.relocation);
    packed.later.push(packed.moved(twice.relocation));
    const { blocks, deliver } = collector();
    await packed.store.readBlocks(wanted, deliver, noTally());
    expect(Buffer.compare(blocks.get(1)!, raws[1]!)).toBe(0);
  });

  test('that nobody needed when their pack was moved are read in their old place while it is there', async () => {
    const packed = new Packed();
    const { wanted, raws } = await packed.blocks(4);
    const { relocation } = await packed.move([wanted[0]!.entry]);
    packed.state = packed.moved(relocation);
    const { blocks, deliver } = collector();
    await packed.store.readBlocks(wanted, deliver, noTally());
    for (const [block, raw] of raws.entries()) expect(Buffer.compare(blocks.get(block)!, raw)).toBe(0);
    await packed.drop(relocation.pack);
    const failed: number[] = [];
    const onFailed = (block: number, error: unknown) => {
      expect(BackupError.is(error, 'PACK_MISSING')).toBe(true);
      failed.push(block);
    };
    await packed.store.readBlocks(wanted, () => {}, noTally(), { onFailed });
    expect(failed).toEqual([1, 2, 3]);
  });

  test('of a damaged table are RECORD_CORRUPT, others are read', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(2);
    const other = await packed.blocks(1);
    const { relocation } = await packed.move(wanted.map(({ entry }) => entry));
    await packed.spoil(relocation.location.pack, (bytes) => bytes.fill(1, relocation.location.offset + 20));
    packed.state = packed.moved(relocation);
    await errorOf(
      packed.store.readBlocks(wanted, () => {}, noTally()),
      'RECORD_CORRUPT',
    );
    const { blocks, deliver } = collector();
    const failed: number[] = [];
    const all = [...wanted, { ...other.wanted[0]!, block: 9 }];
    await packed.store.readBlocks(all, deliver, noTally(), { onFailed: (block) => void failed.push(block) });
    expect(failed).toEqual([0, 1]);
    expect([...blocks.keys()]).toEqual([9]);
  });

  test('reject with what the target gives, and with what went wrong on looking at the log', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(1);
    const refusal = new BackupError('PERMISSION_DENIED', 'no');
    packed.target.before = () => Promise.reject(refusal);
    await expect(packed.store.readBlocks(wanted, () => {}, noTally())).rejects.toBe(refusal);
    expect(packed.looks).toBe(0);
    packed.target.before = () => {};
    await packed.drop(wanted[0]!.entry.location.pack);
    const unreachable = new BackupError('TARGET_UNREACHABLE', 'no');
    Object.defineProperty(packed.later, 'shift', {
      value: () => {
        throw unreachable;
      },
    });
    await expect(packed.store.readBlocks(wanted, () => {}, noTally())).rejects.toBe(unreachable);
  });

  test('end with what `deliver` throws, also for who goes on past damage', async () => {
    const packed = new Packed();
    const { wanted } = await packed.blocks(10);
    let delivered = 0;
    const full = new Error('full');
    const deliver = () => {
      if (++delivered === 3) throw full;
    };
    const onFailed = () => expect.fail('a block did not fail');
    await expect(packed.store.readBlocks(wanted, deliver, noTally(), { onFailed })).rejects.toBe(full);
    expect(delivered).toBe(3);
  });

  test('end with their signal, also where the target does not heed it, and not while one is being delivered', async () => {
    const packed = new Packed();
    const [a, b] = [await packed.blocks(2), await packed.blocks(1)];
    const stop = new AbortController();
    packed.target.before = (key) => (key.endsWith(b.wanted[0]!.entry.location.pack.random) ? new Promise(() => {}) : 0);
    const delivering = Promise.withResolvers<void>();
    let delivered = 0;
    const deliver = () => {
      delivered++;
      return delivering.promise;
    };
    const reading = packed.store.readBlocks([...a.wanted, { ...b.wanted[0]!, block: 5 }], deliver, noTally(), {
      signal: stop.signal,
    });
    reading.catch(() => {});
    while (delivered === 0) await turns(1);
    const reason = new Error('enough');
    stop.abort(reason);
    expect(await isSettled(reading)).toBe(false);
    delivering.resolve();
    await expect(reading).rejects.toBe(reason);
    expect(delivered).toBe(1);
    await expect(packed.store.readBlocks(a.wanted, deliver, noTally(), { signal: stop.signal })).rejects.toBe(reason);
  });
});

describe('records one by one', () => {
  test('that are neighbours share a request, and the same one is fetched once', async () => {
    const packed = new Packed();
    const stored = await packed.pack(
      Array.from({ length: 20 }, () => chunk()),
      KIND,
    );
    const reads = [...stored, ...stored].map(({ id, location }) => packed.store.read(KIND, id, location));
    for (const [index, raw] of (await Promise.all(reads)).entries()) {
      expect(Buffer.compare(raw, stored[index % 20]!.raw)).toBe(0);
      expect(raw.buffer.byteLength).toBeLessThan(3000); // Nobody who keeps one keeps all.
    }
    expect(packed.target.gets).toHaveLength(1);
  });

  test('fail each for itself', async () => {
    const packed = new Packed();
    const stored = await packed.pack([chunk(), chunk()], KIND);
    const { pack, offset } = stored[0]!.location;
    await packed.spoil(pack, (bytes) => bytes.fill(bytes[offset]! ^ 1, offset, offset + 1));
    const [bad, good] = stored.map(({ id, location }) => packed.store.read(KIND, id, location));
    await errorOf(bad!, 'RECORD_CORRUPT');
    expect(Buffer.compare(await good!, stored[1]!.raw)).toBe(0);
  });

  test('follow a pack that was moved', async () => {
    const packed = new Packed();
    const [stored] = await packed.pack([chunk()]);
    const { relocation } = await packed.move([stored!]);
    await packed.drop(relocation.pack);
    packed.later.push(packed.moved(relocation));
    expect(Buffer.compare(await packed.store.read(RecordKind.block, stored!.id, stored!.location), stored!.raw)).toBe(
      0,
    );
  });

  test('are not taken from others by who gives up; given up by all they end, and the next read begins anew', async () => {
    const packed = new Packed();
    const [stored] = await packed.pack([chunk()], KIND);
    const { id, location } = stored!;
    const answer = Promise.withResolvers<void>();
    packed.target.before = () => answer.promise;
    const [one, other] = [new AbortController(), new AbortController()];
    const first = packed.store.read(KIND, id, location, { signal: one.signal });
    const second = packed.store.read(KIND, id, location, { signal: other.signal });
    await turns(3);
    one.abort(new Error('one'));
    await expect(first).rejects.toThrow('one');
    expect(packed.target.signals[0]?.aborted).toBe(false);
    other.abort(new Error('other'));
    const third = packed.store.read(KIND, id, location);
    await expect(second).rejects.toThrow('other');
    expect(packed.target.signals[0]?.aborted).toBe(true);
    await turns(3);
    expect(packed.target.gets).toHaveLength(2);
    answer.resolve();
    expect(Buffer.compare(await third, stored!.raw)).toBe(0);
  });

  test('that all who asked have given up begin anew, though others of their batch are waited for or answered', async () => {
    const packed = new Packed();
    const [one] = await packed.pack([chunk()], KIND);
    const [other] = await packed.pack([chunk()], KIND);
    const answers = new Map([one, other].map((each) => [packKey(each!.location.pack), Promise.withResolvers<void>()]));
    packed.target.before = (key) => answers.get(key)?.promise;
    const stop = new AbortController();
    const first = packed.store.read(KIND, one!.id, one!.location, { signal: stop.signal });
    const second = packed.store.read(KIND, other!.id, other!.location);
    await turns(3);
    stop.abort(new Error('stop'));
    await expect(first).rejects.toThrow('stop');
    answers.delete(packKey(one!.location.pack)); // It is answered from now on, but not what was asked before.
    expect(Buffer.compare(await packed.store.read(KIND, one!.id, one!.location), one!.raw)).toBe(0);
    expect(packed.target.signals[0]?.aborted).toBe(false);
    answers.get(packKey(other!.location.pack))?.resolve();
    expect(Buffer.compare(await second, other!.raw)).toBe(0);
    expect(packed.target.signals[0]?.aborted).toBe(true);
  });

  test('that were given up before they were sent take no request, and do not spoil those that come after', async () => {
    const packed = new Packed();
    const [stored] = await packed.pack([chunk()], KIND);
    const stop = new AbortController();
    const first = packed.store.read(KIND, stored!.id, stored!.location, { signal: stop.signal });
    stop.abort(new Error('stop'));
    const second = packed.store.read(KIND, stored!.id, stored!.location);
    await expect(first).rejects.toThrow('stop');
    expect(Buffer.compare(await second, stored!.raw)).toBe(0);
    const third = packed.store.read(KIND, stored!.id, stored!.location, { signal: stop.signal });
    await expect(third).rejects.toThrow('stop');
    const last = new AbortController();
    const fourth = packed.store.read(KIND, stored!.id, stored!.location, { signal: last.signal });
    last.abort(new Error('last'));
    await expect(fourth).rejects.toThrow('last');
    await turns(3);
    expect(packed.target.gets).toHaveLength(1);
  });

  test('are charged to who asks, and one’s budget ends nobody else’s read', async () => {
    const packed = new Packed();
    const [a, b] = await packed.pack([chunk(), chunk()], KIND);
    const store = new RecordStore({
      target: new MeteredTarget(packed.target),
      keys: packed.keys,
      fanOut: FAN_OUT,
      state: () => packed.state,
      catchUp: async () => packed.state,
    });
    const [poor, rich] = [new RequestMeter({ gets: 0 }), new RequestMeter()];
    const read = (meter: RequestMeter, stored: typeof a) =>
      metered(meter, () => store.read(KIND, stored!.id, stored!.location));
    const reads = [read(poor, a), read(rich, a), read(rich, b)];
    await errorOf(reads[0]!, 'BUDGET_EXCEEDED');
    expect(Buffer.compare(await reads[1]!, a!.raw)).toBe(0);
    await reads[2];
    expect([poor.gets, rich.gets]).toEqual([0, 1]);
  });
});

describe('what is kept in memory', () => {
  /** Leaves would have to be well-formed to be read; whoever has just written one is believed. */
  const leaf = (offset: number): Location => ({
    pack: { session: 1, random: '0'.repeat(32) },
    offset,
    storedLength: 100,
    codec: 0,
    rawLength: 100,
  });

  test('is what was just written, by its place', async () => {
    const { store, target } = new Packed();
    const [id, raw] = [chunk(32), chunk(100)];
    store.remember(RecordKind.leaf, id, leaf(8), raw);
    expect(store.peek(leaf(8))).toEqual(raw);
    expect(store.peek(leaf(9))).toBeUndefined();
    expect(await store.read(RecordKind.leaf, id, leaf(8))).toEqual(raw);
    expect(target.gets).toEqual([]);
    await errorOf(store.read(RecordKind.leaf, chunk(32), leaf(8)), 'PACK_MISSING');
    await errorOf(store.read(RecordKind.inner, id, leaf(8)), 'PACK_MISSING');
    await errorOf(store.read(RecordKind.leaf, id, leaf(9)), 'PACK_MISSING');
    expect(target.gets).toEqual([`${packKey(leaf(8).pack)} 8+100`, ...target.gets.slice(1)]);
  });

  test('is bounded, and what was used last stays', () => {
    const { store } = new Packed({ cacheBytes: 100_000 });
    for (let offset = 8; offset < 508; offset++) {
      store.remember(RecordKind.leaf, chunk(32), leaf(offset), chunk(1000));
      store.peek(leaf(8));
    }
    const kept = Array.from({ length: 500 }, (_, index) => store.peek(leaf(8 + index))).filter((raw) => raw);
    expect(kept.length).toBeGreaterThan(50);
    expect(kept.length).toBeLessThan(100);
    expect(store.peek(leaf(8))).toBeDefined();
    expect(store.peek(leaf(9))).toBeUndefined();
  });

  test('is nothing with room for nothing, and never blocks', async () => {
    const packed = new Packed({ cacheBytes: 0 });
    packed.store.remember(RecordKind.leaf, chunk(32), leaf(8), chunk());
    expect(packed.store.peek(leaf(8))).toBeUndefined();
    const other = new Packed();
    const [block] = await other.pack([chunk()]);
    await other.store.read(RecordKind.block, block!.id, block!.location);
    expect(other.store.peek(block!.location)).toBeUndefined();
  });

  test('are runs that were read, unless they need not be kept', async () => {
    const packed = new Packed();
    // A run chunk of one entry without content: number of entries, block, presence.
    const raw = Uint8Array.from([1, 0, 0, 0, 5, 0, 0, 0, 0]);
    const [kept, passed] = [
      await packed.pack([raw], RecordKind.runChunk),
      await packed.pack([raw], RecordKind.runChunk),
    ];
    await packed.store.read(RecordKind.runChunk, kept[0]!.id, kept[0]!.location);
    await packed.store.read(RecordKind.runChunk, passed[0]!.id, passed[0]!.location, { keep: false });
    expect(packed.store.peek(kept[0]!.location)).toEqual(raw);
    expect(packed.store.peek(passed[0]!.location)).toBeUndefined();
  });
});

test('records that are asked for while the table which they need is on its way are read', async () => {
  const packed = new Packed({ cacheBytes: 0 });
  const [first, second] = await packed.pack([chunk(), chunk()], KIND);
  const { relocation } = await packed.move([first!, second!]);
  packed.state = packed.moved(relocation);
  await packed.drop(relocation.pack);
  const reading = packed.store.read(KIND, first!.id, first!.location);
  await new Promise((resolve) => setImmediate(resolve));
  // The first one has asked for the table. This one goes out with the table.
  expect(await packed.store.read(KIND, second!.id, second!.location)).toEqual(second!.raw);
  expect(await reading).toEqual(first!.raw);
});

describe('a store that is strict about relocations', () => {
  test('refuses what the newest table left out, and follows what it names', async () => {
    const packed = new Packed({ relocations: 'strict' });
    const [moved, left] = await packed.pack([chunk(), chunk()], KIND);
    const once = await packed.move([moved!, left!]);
    const newest = await packed.move([moved!]);
    packed.state = {
      ...packed.moved(newest.relocation),
      formerRelocations: new Map([[packKey(once.relocation.pack), [{ ...once.relocation, by: { seq: 1, at: 0 } }]]]),
    };
    expect(await packed.store.read(KIND, moved!.id, moved!.location)).toEqual(moved!.raw);
    // A reader would find it through the former table, and in its old place.
    await errorOf(packed.store.read(KIND, left!.id, left!.location), 'MAP_CORRUPT');
    const shorter = { ...moved!.location, storedLength: moved!.location.storedLength - 1 };
    await errorOf(packed.store.read(KIND, moved!.id, shorter), 'MAP_CORRUPT');
  });

  test('follows the table that replaced one which is gone, and calls none missing before it has read the log', async () => {
    const packed = new Packed({ relocations: 'strict', rereadsDamage: true });
    const [record] = await packed.pack([chunk()], KIND);
    const once = await packed.move([record!]);
    const twice = await packed.move([record!]);
    const { relocations } = packed.store;
    await packed.drop(once.relocation.location.pack);
    packed.state = packed.moved(once.relocation);
    packed.later.push(packed.moved(twice.relocation));
    expect(await relocations.locate(record!.location)).toEqual(twice.places[0]);
    expect(packed.looks).toBe(1);
    // What is asked for by its own table is missing, and from then on the state is that of the log.
    const thrice = await packed.move([record!]);
    await packed.drop(twice.relocation.location.pack);
    const other = new Packed({ relocations: 'strict', rereadsDamage: true });
    other.later.push(other.moved(thrice.relocation));
    await errorOf(other.store.relocations.targets(twice.relocation), 'PACK_MISSING');
    expect(other.looks).toBe(0); // An entry may be being decided on, which has the turn at the log.
    await errorOf(other.store.relocations.targets(twice.relocation, { readsLog: true }), 'PACK_MISSING');
    expect(other.state.relocations.size).toBe(1);
  });

  test('says which record is at fault: the record where it is now, or the table', async () => {
    const packed = new Packed({ relocations: 'strict', rereadsDamage: true });
    const [moved, left] = await packed.pack([chunk(), chunk()], KIND);
    const { relocation, places } = await packed.move([moved!]);
    packed.state = packed.moved(relocation);
    const { relocations } = packed.store;
    expect(await relocations.culprit(moved!.location)).toEqual(places[0]);
    expect(await relocations.culprit(left!.location)).toEqual(left!.location);
    const damaged = new Packed({ relocations: 'strict', rereadsDamage: true });
    const [record] = await damaged.pack([chunk()], KIND);
    const other = await damaged.move([record!]);
    await damaged.spoil(other.relocation.location.pack, (bytes) => bytes.fill(1, other.relocation.location.offset));
    damaged.state = damaged.moved(other.relocation);
    expect(await damaged.store.relocations.culprit(record!.location)).toEqual(other.relocation.location);
  });
});

describe('a store that reads damage again', () => {
  test('believes damage only after a second read', async () => {
    const packed = new Packed({ rereadsDamage: true, cacheBytes: 0 });
    const [record] = await packed.pack([chunk()], KIND);
    const { pack, offset } = record!.location;
    const flip = () => packed.spoil(pack, (bytes) => bytes.fill(bytes[offset]! ^ 1, offset, offset + 1));
    await flip();
    await errorOf(packed.store.read(KIND, record!.id, record!.location), 'RECORD_CORRUPT');
    expect(packed.target.gets).toHaveLength(2);
    // Right again from the second read on.
    packed.target.before = async () => {
      if (packed.target.gets.length === 4) await flip();
    };
    expect(await packed.store.read(KIND, record!.id, record!.location)).toEqual(record!.raw);
    expect(packed.target.gets).toHaveLength(4);
  });

  test('asks for a missing pack twice, and then not again until the log goes on', async () => {
    const packed = new Packed({ rereadsDamage: true, cacheBytes: 0 });
    const [record] = await packed.pack([chunk()], KIND);
    await packed.drop(record!.location.pack);
    await errorOf(packed.store.read(KIND, record!.id, record!.location), 'PACK_MISSING');
    expect(packed.target.gets).toHaveLength(2);
    expect(packed.looks).toBe(1);
    await errorOf(packed.store.read(KIND, record!.id, record!.location), 'PACK_MISSING');
    expect(packed.target.gets).toHaveLength(2);
    expect(packed.looks).toBe(1);
    packed.state = { ...packed.state, seq: packed.state.seq + 1 };
    await errorOf(packed.store.read(KIND, record!.id, record!.location), 'PACK_MISSING');
    expect(packed.target.gets).toHaveLength(4);
  });
});
