import { forEachConcurrently } from '../common/map-concurrently.ts';
import type { CloudTarget, ListOptions } from '../targets/cloud-target.ts';
import { expectEqual, expectThat } from './conformance.ts';
import type { TargetCase } from './target-object-cases.ts';

/**
 * Names in key order. `-` and `.` come before `/`, and digits after it: an adapter that walks folder by folder, or compares segment
 * by segment, gets another order.
 */
const ORDERED = [
  ...'0 00 00012 1e5 a-b a-b.d/c a.b a.c/d a/0 a/b-c a/b/c a/b0 a0 a00/b a_b aa b/c/d/e b/c/d0'.split(' '),
  ...['', '-', '0/d', '1'].map((end) => `c${'x'.repeat(126)}${end}`),
  'z',
];

async function keysOf(target: CloudTarget, prefix: string, options?: ListOptions): Promise<string[]> {
  const keys: string[] = [];
  for await (const info of target.list(prefix, options)) keys.push(info.key);
  return keys;
}

/** Cases about listings: order, prefixes, `after`, length, and leaving early. */
export const targetListingCases: readonly TargetCase[] = [
  {
    name: 'a listing is complete and in the order of key bytes',
    async run({ target, prefix, key }) {
      // They are put in another order than that of the listing.
      const shuffled = [...ORDERED].sort((one, other) => (hash(one) < hash(other) ? -1 : 1));
      for (const name of shuffled) await target.put(key(name), new Uint8Array(name.length));
      expectEqual(await keysOf(target, prefix), ORDERED.map(key), 'the listing');
      for await (const info of target.list(prefix)) {
        expectEqual(info.size, info.key.length - prefix.length, `the size that is listed of ${info.key}`);
      }
      // There may be other objects, too; only the order matters.
      const everything = await keysOf(target, '');
      expectEqual(everything, [...everything].sort(), 'the listing of everything');
      expectThat(
        ORDERED.map(key).every((each) => everything.includes(each)),
        'the listing of everything lacks objects',
      );
    },
  },
  {
    name: 'a prefix is any text, also one that ends within a segment',
    async run({ target, prefix, key }) {
      for (const name of ORDERED) await target.put(key(name), new Uint8Array(1));
      const prefixes = [...'a a/ a/b a- a. a0 b/c/d b/c/d/ 0 cxx q A'.split(' '), `c${'x'.repeat(126)}`];
      for (const text of [...prefixes, 'a/b/c/d', 'é', '../']) {
        const expected = ORDERED.filter((name) => name.startsWith(text)).map(key);
        expectEqual(await keysOf(target, prefix + text), expected, `the listing of ${JSON.stringify(text)}`);
      }
      expectEqual(await keysOf(target, prefix.slice(0, -1)), ORDERED.map(key), 'the listing of the parent segment');
      expectEqual(await keysOf(target, `/${prefix}`), [], 'the listing of a prefix that no key has');
    },
  },
  {
    name: 'after leaves out that key and all before it, and need not exist',
    async run({ target, prefix, key }) {
      for (const name of ORDERED) await target.put(key(name), new Uint8Array(1));
      for (const after of [...ORDERED, '', 'a/', 'a/a', 'a!', 'a/b/', 'b', 'b/c/d', 'zz', 'é']) {
        const expected = ORDERED.filter((name) => name > after).map(key);
        const listed = await keysOf(target, prefix, { after: prefix + after });
        expectEqual(listed, expected, `the listing after ${JSON.stringify(after)}`);
      }
      const within = ORDERED.filter((name) => name.startsWith('a/') && name > 'a/b').map(key);
      expectEqual(await keysOf(target, key('a/'), { after: key('a/b') }), within, 'the listing of a/ after a/b');
      expectEqual(await keysOf(target, key('a/'), { after: key('z') }), [], 'the listing of a/ after z');
      expectEqual(await keysOf(target, prefix, { after: '' }), ORDERED.map(key), 'the listing after nothing');
    },
  },
  {
    name: 'a listing goes on past a thousand objects, has what is there throughout, and may be left early',
    async run({ target, prefix, key }) {
      const names = Array.from({ length: 1005 }, (_, index) => `many/${String(index).padStart(6, '0')}`);
      await forEachConcurrently(names, (name) => target.put(key(name), new Uint8Array(0)), 24);
      expectEqual(await keysOf(target, prefix), names.map(key), 'the listing');
      expectEqual(await keysOf(target, prefix, { after: key('many/000999') }), names.slice(1000).map(key), 'the end');
      const some: string[] = [];
      for await (const info of target.list(prefix)) {
        some.push(info.key);
        if (some.length === 3) break;
      }
      expectEqual(some, names.slice(0, 3).map(key), 'the listing that was left');
      expectEqual((await keysOf(target, key('many/00100'))).length, 5, 'objects listed after one was left early');
      await expectLasting(target, prefix, names, key);
      if (target.deleteMany !== undefined) {
        await target.deleteMany(await keysOf(target, prefix));
        expectEqual(await keysOf(target, prefix), [], 'the listing after all were deleted');
      }
    },
  },
  {
    name: 'a listing follows what is put and deleted before it begins',
    async run({ target, prefix, key }) {
      expectEqual(await keysOf(target, prefix), [], 'the listing of nothing');
      await target.put(key('a/b'), new Uint8Array(1));
      await target.put(key('c'), new Uint8Array(1));
      expectEqual(await keysOf(target, prefix), [key('a/b'), key('c')], 'the listing after two puts');
      await target.delete(key('a/b'));
      expectEqual(await keysOf(target, prefix), [key('c')], 'the listing after a delete');
    },
  },
  {
    name: 'a listing holds what existed throughout while others are put and deleted',
    async run({ target, prefix, key }) {
      const lasting = Array.from(
        { length: 40 },
        (_, index) => `d${index % 4}/lasting-${String(index).padStart(2, '0')}`,
      );
      for (const name of lasting) await target.put(key(name), new Uint8Array(2));
      let stopped = false;
      const churn = async (worker: number) => {
        for (let round = 0; !stopped; round++) {
          const name = key(`d${round % 4}/passing-${worker}-${round % 5}`);
          await target.put(name, new Uint8Array(1));
          await target.delete(name);
        }
      };
      const churning = [0, 1, 2].map(churn);
      try {
        for (let round = 0; round < 5; round++) {
          const keys = await keysOf(target, prefix);
          expectEqual(keys, [...new Set(keys)].sort(), 'the order of a listing in the course of changes');
          const found = keys.filter((each) => each.includes('lasting'));
          expectEqual(found, lasting.map(key).sort(), 'the lasting objects in a listing');
        }
      } finally {
        stopped = true;
        await Promise.all(churning);
      }
    },
  },
];

/**
 * A listing of several pages, while objects are put and deleted before and behind where it is. A store that counts objects instead of
 * going on after a key leaves some out, or lists some twice.
 */
async function expectLasting(
  target: CloudTarget,
  prefix: string,
  names: readonly string[],
  key: (name: string) => string,
): Promise<void> {
  const passing = new Set<string>();
  const change = async (deleted: readonly number[], put: readonly string[]) => {
    for (const name of deleted.map((index) => names[index] as string)) {
      passing.add(name);
      await target.delete(key(name));
    }
    for (const name of put) await target.put(key(name), new Uint8Array(1));
  };
  const keys: string[] = [];
  for await (const info of target.list(prefix)) {
    keys.push(info.key);
    if (keys.length === 1) await change([0, 500, 999], ['many/000250-new', 'many/000998-new']);
    if (keys.length === 600) await change([1, 2, 599, 1003], ['many/0', 'many/z']);
  }
  expectEqual(keys, [...new Set(keys)].sort(), 'the order of a listing in the course of changes');
  const lasting = names.filter((name) => !passing.has(name)).map(key);
  const found = new Set(keys);
  expectEqual(
    lasting.filter((each) => !found.has(each)),
    [],
    'the lasting objects that a listing lacks',
  );
  // What a listing goes on after may have been deleted since.
  const [first] = await keysOf(target, prefix, { after: key(names[0] as string) });
  expectEqual(first, key(names[3] as string), 'what is listed after an object that was deleted');
}

/** An order that is unrelated to that of the keys. */
function hash(text: string): number {
  return [...text].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) % 1009, text.length);
}
