import { createHash } from 'node:crypto';
import { type CloudTarget, MAX_KEY_LENGTH, MAX_KEY_SEGMENT_LENGTH } from '../targets/cloud-target.ts';
import { type ConformanceContext, expectBytes, expectCode, expectEqual, expectThat, outcomeOf } from './conformance.ts';
import { randomBytesFrom, seededRandom } from './seeded-random.ts';

const MIB = 1024 * 1024;
/** Stores date objects to the second, some file systems to two seconds, and the servers of one store differ slightly. */
const CLOCK_STEP_MS = 5000;
const SIZES = [0, 1, MIB, 8 * MIB + 1];

/** Strings that are not keys: escapes, empty segments, other alphabets, too long. */
const INVALID_KEYS = [
  ...['', 'a b', 'a\\b', 'a\0b', 'a\n', 'é', 'a~', 'a+b', 'a%2fb', 'a:b', 'A'],
  ...'/ /a a/ a//b . .. a/.. a/../b a/.b -a _a a/-b a. a./b a/b.. con a/nul/b lpt1.txt'.split(' '),
  'a'.repeat(MAX_KEY_SEGMENT_LENGTH + 1),
  `${'a/'.repeat(MAX_KEY_LENGTH / 2)}a`,
];

/** Bytes that depend only on size and seed, and show where they came from. */
export function content(size: number, seed = size): Uint8Array<ArrayBuffer> {
  return randomBytesFrom(seededRandom(seed), size);
}

/** Cases about single objects: put, get, stat, delete, and the calls that must be refused. */
export const targetObjectCases: readonly TargetCase[] = [
  ...SIZES.map((size) => ({
    name: `an object of ${size} bytes comes back as it was put`,
    run: async ({ target, key }: TargetTrial) => {
      await target.put(key('object'), content(size));
      expectBytes(await target.get(key('object')), content(size), 'the body');
      const info = await target.stat(key('object'));
      expectEqual(info?.size, size, 'the size in stat');
      expectEqual(info?.key, key('object'), 'the key in stat');
    },
  })),
  {
    name: 'a put replaces what was there, also by something shorter',
    async run({ target, key }) {
      await target.put(key('object'), content(5000));
      await target.put(key('object'), content(100));
      expectBytes(await target.get(key('object')), content(100), 'the body');
      expectEqual((await target.stat(key('object')))?.size, 100, 'the size');
      await target.put(key('object'), content(0));
      expectBytes(await target.get(key('object')), content(0), 'the body after an empty put');
    },
  },
  {
    name: 'one key may be the beginning of another as text',
    async run({ target, key }) {
      const names = ['a/b/c', 'a/b/cd', 'a/bc', 'ab', 'a.b', 'a-b', 'a_b', 'cons', 'com', 'a.con', '0'];
      for (const [index, name] of names.entries()) await target.put(key(name), content(10 + index));
      for (const [index, name] of names.entries()) {
        expectBytes(await target.get(key(name)), content(10 + index), `the body of ${name}`);
      }
      await target.delete(key('a/b/c'));
      expectBytes(await target.get(key('a/b/cd')), content(11), 'the body of a/b/cd after a/b/c is gone');
      expectBytes(await target.get(key('ab')), content(13), 'the body of ab after a/b/c is gone');
    },
  },
  {
    name: 'a put below an object, or above others, is INVALID_KEY or does no harm to them',
    async run({ target, key }) {
      await target.put(key('a/b'), content(10));
      for (const name of ['a', 'a/b/c', 'a/b/c/d']) {
        for (const createOnly of target.capabilities.createOnly ? [false, true] : [false]) {
          await target.delete(key(name));
          const put = target.put(key(name), content(20), { createOnly });
          const outcome = await outcomeOf(put);
          if (outcome.rejected) await expectCode(put, 'INVALID_KEY', `put of ${name} where a/b is an object`);
          expectBytes(await target.get(key('a/b')), content(10), `the body of a/b after a put of ${name}`);
        }
        await target.delete(key(name));
        expectBytes(await target.get(key('a/b')), content(10), `the body of a/b after a delete of ${name}`);
      }
    },
  },
  {
    name: `keys of ${MAX_KEY_LENGTH} characters work, in few segments and in many`,
    async run({ target, prefix }) {
      const rest = MAX_KEY_LENGTH - prefix.length;
      const long = `${'x'.repeat(MAX_KEY_SEGMENT_LENGTH - 1)}/`;
      const keys = [long.repeat(4), 'y/'.repeat(rest)].map((text) => `${prefix}${text}`.slice(0, MAX_KEY_LENGTH - 1));
      for (const key of keys.map((key) => `${key}z`.replace('/z', 'yz'))) {
        await target.put(key, content(7));
        expectBytes(await target.get(key), content(7), 'the body');
        const listed: string[] = [];
        for await (const info of target.list(key)) listed.push(info.key);
        expectEqual(listed, [key], 'the listing');
        await target.delete(key);
        expectEqual(await target.stat(key), undefined, 'stat after it was deleted');
      }
    },
  },
  {
    name: 'a range is answered exactly: at both ends, in between, whole, and of no length',
    async run({ target, key }) {
      const body = content(10_000);
      await target.put(key('object'), body);
      const ranges = [
        [0, 1],
        [0, 10_000],
        [9_999, 1],
        [1, 9_998],
        [4_096, 4_096],
        [0, 0],
        [5_000, 0],
        [10_000, 0],
      ] as const;
      for (const [offset, length] of ranges) {
        const bytes = await target.get(key('object'), { range: { offset, length } });
        expectBytes(bytes, body.subarray(offset, offset + length), `${length} bytes from ${offset}`);
      }
    },
  },
  {
    name: 'a range that is not wholly within the object is RANGE_UNSATISFIABLE',
    async run({ target, key }) {
      await target.put(key('object'), content(1000));
      await target.put(key('empty'), content(0));
      const ranges = [
        [999, 2],
        [0, 1001],
        [1000, 1],
        [1001, 0],
        [5000, 10],
      ] as const;
      for (const [offset, length] of ranges) {
        const work = target.get(key('object'), { range: { offset, length } });
        await expectCode(work, 'RANGE_UNSATISFIABLE', `${length} bytes from ${offset} of 1000`);
      }
      const work = target.get(key('empty'), { range: { offset: 0, length: 1 } });
      await expectCode(work, 'RANGE_UNSATISFIABLE', 'a byte of an empty object');
    },
  },
  {
    name: 'an absent object is OBJECT_NOT_FOUND to get and undefined to stat',
    async run({ target, key }) {
      await target.put(key('neighbour/below'), content(1));
      for (const name of ['absent', 'neighbour', 'neighbour/below/it']) {
        const error = await expectCode(target.get(key(name)), 'OBJECT_NOT_FOUND', `get of ${name}`);
        expectThat(!error.retryable, 'OBJECT_NOT_FOUND must not be retryable');
        const range = { offset: 0, length: 1 };
        await expectCode(target.get(key(name), { range }), 'OBJECT_NOT_FOUND', `get of a range of ${name}`);
        const nothing = { offset: 0, length: 0 };
        await expectCode(target.get(key(name), { range: nothing }), 'OBJECT_NOT_FOUND', `get of nothing of ${name}`);
        expectEqual(await target.stat(key(name)), undefined, `stat of ${name}`);
      }
    },
  },
  {
    name: 'stat tells the SHA-256 of the body where the capabilities promise it',
    async run({ target, key, context }) {
      // A target may learn from the first put what its server supports.
      await target.put(key('object'), content(3000));
      if (!target.capabilities.checksums) return context.skip('the target keeps no checksums');
      const info = await target.stat(key('object'));
      expectEqual(info?.sha256, createHash('sha256').update(content(3000)).digest('hex'), 'the checksum');
    },
  },
  {
    name: 'a deleted object is gone, and deleting what is not there is a success',
    async run({ target, key }) {
      await target.delete(key('never/was'));
      await target.put(key('object'), content(10));
      await target.delete(key('object'));
      expectEqual(await target.stat(key('object')), undefined, 'stat of the deleted object');
      await expectCode(target.get(key('object')), 'OBJECT_NOT_FOUND', 'get of the deleted object');
      await target.delete(key('object'));
      await target.put(key('object'), content(20));
      expectBytes(await target.get(key('object')), content(20), 'the body put after it was deleted');
    },
  },
  {
    name: 'deleteMany deletes just the objects it is given, absent ones among them',
    async run({ target, key, context }) {
      if (target.deleteMany === undefined) return context.skip('the target has no deleteMany');
      for (const name of ['a', 'b/c', 'd', 'keep', 'b/keep']) await target.put(key(name), content(3));
      await target.deleteMany([]);
      await target.deleteMany(['a', 'b/c', 'absent', 'd'].map(key));
      for (const name of ['a', 'b/c', 'd']) expectEqual(await target.stat(key(name)), undefined, `stat of ${name}`);
      for (const name of ['keep', 'b/keep']) expectEqual((await target.stat(key(name)))?.size, 3, `size of ${name}`);
      await expectCode(target.deleteMany([key('keep'), '../x']), 'INVALID_KEY', 'deleteMany with a bad key');
    },
  },
  {
    name: 'what is not a key is INVALID_KEY to every call',
    async run({ target }) {
      for (const bad of INVALID_KEYS) {
        const shown = JSON.stringify(bad.slice(0, 20));
        await expectCode(target.put(bad, content(1)), 'INVALID_KEY', `put of ${shown}`);
        await expectCode(target.get(bad), 'INVALID_KEY', `get of ${shown}`);
        await expectCode(target.stat(bad), 'INVALID_KEY', `stat of ${shown}`);
        await expectCode(target.delete(bad), 'INVALID_KEY', `delete of ${shown}`);
      }
    },
  },
  {
    name: 'the bytes that get answers are the caller’s own',
    async run({ target, key }) {
      await target.put(key('object'), content(1000));
      (await target.get(key('object'))).fill(0xff);
      (await target.get(key('object'), { range: { offset: 10, length: 100 } })).fill(0xff);
      expectBytes(await target.get(key('object')), content(1000), 'the body after answers were overwritten');
    },
  },
  {
    name: 'put does not change the body, and keeps no hold of it once it has resolved',
    async run({ target, key }) {
      const buffer = new Uint8Array(5000).fill(0xaa);
      const body = buffer.subarray(1000, 3000); // A view, as of a pool: the bytes around it are somebody else's.
      body.set(content(2000));
      await target.put(key('object'), body);
      expectBytes(body, content(2000), 'the buffer after the put');
      expectThat(
        buffer.subarray(0, 1000).every((byte) => byte === 0xaa),
        'the put changed bytes outside of the body',
      );
      body.fill(0);
      expectBytes(await target.get(key('object')), content(2000), 'the object after its buffer was used again');
    },
  },
  {
    name: 'storeTime is of the clock that dates the objects',
    async run({ target, key, context }) {
      if (target.storeTime === undefined) return context.skip('the target has no storeTime');
      const before = await target.storeTime();
      await target.put(key('object'), content(10));
      const modifiedAt = (await target.stat(key('object')))?.modifiedAt;
      const after = await target.storeTime();
      if (before === undefined || after === undefined || modifiedAt === undefined) {
        return context.skip('the store does not say what time it is, or dates no objects');
      }
      expectThat(!Number.isNaN(Number(before)), 'storeTime resolved to an invalid date');
      for await (const { modifiedAt: listedAt = modifiedAt } of target.list(key('object'))) {
        const differMs = Math.abs(Number(listedAt) - Number(modifiedAt));
        expectThat(differMs <= CLOCK_STEP_MS, `stat and list date an object ${differMs} ms apart`);
      }
      const early = Number(before) - CLOCK_STEP_MS;
      const late = Number(after) + CLOCK_STEP_MS;
      expectThat(
        early <= Number(modifiedAt) && Number(modifiedAt) <= late,
        `an object put between ${before.toISOString()} and ${after.toISOString()} is dated ${modifiedAt.toISOString()}`,
      );
    },
  },
  {
    name: 'a body over the limit that the capabilities tell is OBJECT_TOO_LARGE',
    async run({ target, key, context }) {
      const limit = target.capabilities.maxObjectBytes;
      if (limit === undefined || limit > 64 * MIB) return context.skip('no limit that can be tried');
      await expectCode(target.put(key('object'), new Uint8Array(limit + 1)), 'OBJECT_TOO_LARGE', 'the put');
      expectEqual(await target.stat(key('object')), undefined, 'stat after the refused put');
    },
  },
  {
    name: 'once closed it stays closed: every call rejects with CLOSED, closing again does nothing',
    async run({ target, key }) {
      await target.put(key('object'), content(1));
      await target[Symbol.asyncDispose]();
      await target[Symbol.asyncDispose]();
      await expectCode(target.put(key('object'), content(1)), 'CLOSED', 'put');
      await expectCode(target.get(key('object')), 'CLOSED', 'get');
      await expectCode(target.stat(key('object')), 'CLOSED', 'stat');
      await expectCode(target.delete(key('object')), 'CLOSED', 'delete');
      if (target.deleteMany) await expectCode(target.deleteMany([key('object')]), 'CLOSED', 'deleteMany');
      if (target.storeTime) await expectCode(target.storeTime(), 'CLOSED', 'storeTime');
      if (target.removeLeftovers) await expectCode(target.removeLeftovers(), 'CLOSED', 'removeLeftovers');
      const listing = async () => {
        for await (const _ of target.list('')) break;
      };
      await expectCode(listing(), 'CLOSED', 'list');
      expectThat(
        !(await outcomeOf(Promise.resolve(target[Symbol.asyncDispose]()))).rejected,
        'closing a third time rejected',
      );
    },
  },
];

/** The arguments of a case: a target, and keys that no other case uses. */
export interface TargetTrial {
  readonly target: CloudTarget;
  /** A key of this case alone. */
  key(name: string): string;
  /** The beginning of all keys of this case, which ends with a `/`. */
  readonly prefix: string;
  readonly context: ConformanceContext;
}

/** A case of the suite for targets. */
export interface TargetCase {
  readonly name: string;
  run(trial: TargetTrial): Promise<void>;
}
