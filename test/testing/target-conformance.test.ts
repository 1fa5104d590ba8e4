import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import type { CloudTarget, ObjectInfo } from '../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { targetConformance } from '../../src/testing/target-conformance.ts';
import { turn } from '../support/turn.ts';

type Put = Parameters<MemoryTarget['put']>;
type Get = Parameters<MemoryTarget['get']>;
type List = Parameters<MemoryTarget['list']>;
type Listing = ReturnType<MemoryTarget['list']>;

const notFound = () => new BackupError('OBJECT_NOT_FOUND', 'not found');

async function* fromArray(infos: Iterable<ObjectInfo>): Listing {
  yield* infos;
}

async function all(listing: Listing): Promise<ObjectInfo[]> {
  const infos: ObjectInfo[] = [];
  for await (const info of listing) infos.push(info);
  return infos;
}

/** Each breaks one promise of `CloudTarget`, and the case that must notice. */
const broken: [fault: string, noticedBy: RegExp, open: () => CloudTarget][] = [
  [
    'tests for the object and then puts it',
    /exactly one wins/,
    () =>
      new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          const { createOnly, ...rest } = options ?? {};
          if (createOnly && (await this.stat(key))) throw new BackupError('OBJECT_EXISTS', 'exists');
          await turn();
          return super.put(key, body, rest);
        }
      })(),
  ],
  [
    'ignores createOnly, as some servers do',
    /create-only refuses to replace/,
    () =>
      new (class extends MemoryTarget {
        override put(...[key, body, options]: Put) {
          return super.put(key, body, { signal: options?.signal });
        }
      })(),
  ],
  [
    'lets no writer win',
    /exactly one wins/,
    () =>
      new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          await super.put(key, body, options);
          if (options?.createOnly && key.includes('race')) throw new BackupError('OBJECT_EXISTS', 'exists');
        }
      })(),
  ],
  [
    'stores a loser’s body',
    /exactly one wins/,
    () =>
      new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          try {
            await super.put(key, body, options);
          } catch (error) {
            await super.put(key, body);
            throw error;
          }
        }
      })(),
  ],
  [
    'says that it has createOnly not, and does it all the same',
    /CREATE_ONLY_UNSUPPORTED and stores nothing/,
    () =>
      new (class extends MemoryTarget {
        override readonly capabilities = { createOnly: false };
        override put(...[key, body]: Put) {
          return super.put(key, body);
        }
      })(),
  ],
  [
    'lists in the order of putting',
    /order of key bytes/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...args: List): Listing {
          yield* fromArray((await all(super.list(...args))).reverse());
        }
      })(),
  ],
  [
    'lists folder by folder: a/b before a-b',
    /order of key bytes/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...args: List): Listing {
          const order = ({ key }: ObjectInfo) => key.replaceAll('/', '\0');
          yield* fromArray((await all(super.list(...args))).sort((a, b) => (order(a) < order(b) ? -1 : 1)));
        }
      })(),
  ],
  [
    'lists one page and calls it all',
    /past a thousand/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...args: List): Listing {
          yield* fromArray((await all(super.list(...args))).slice(0, 1000));
        }
      })(),
  ],
  [
    'lists its last page first',
    /past a thousand/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...args: List): Listing {
          const infos = await all(super.list(...args));
          yield* fromArray([...infos.slice(1000), ...infos.slice(0, 1000)]);
        }
      })(),
  ],
  [
    'counts how many objects it has listed, and goes on behind as many',
    /past a thousand/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...args: List): Listing {
          for (let listed = 0; ; listed += 1000) {
            const infos = await all(super.list(...args));
            yield* fromArray(infos.slice(listed, listed + 1000));
            if (infos.length <= listed + 1000) return;
          }
        }
      })(),
  ],
  [
    'takes after to be included',
    /after leaves out that key/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...[prefix, { after, ...options } = {}]: List): Listing {
          const infos = await all(super.list(prefix, options));
          yield* fromArray(infos.filter(({ key }) => after === undefined || key >= after));
        }
      })(),
  ],
  [
    'takes a prefix for a folder',
    /ends within a segment/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...[prefix, options]: List): Listing {
          yield* super.list(prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`, options);
        }
      })(),
  ],
  [
    'answers a range past the end with what there is',
    /not wholly within/,
    () =>
      new (class extends MemoryTarget {
        override async get(...[key, { range, signal } = {}]: Get) {
          const bytes = await super.get(key, { signal });
          return range === undefined ? bytes : bytes.slice(range.offset, range.offset + range.length);
        }
      })(),
  ],
  [
    'takes a range’s last byte for excluded',
    /range is answered exactly/,
    () =>
      new (class extends MemoryTarget {
        override async get(...[key, options]: Get) {
          const bytes = await super.get(key, options);
          return options?.range?.length ? bytes.slice(0, -1) : bytes;
        }
      })(),
  ],
  [
    'keeps hold of the body that it was given',
    /keeps no hold of it/,
    () => {
      const held = new Map<string, Uint8Array<ArrayBuffer>>();
      return new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          await super.put(key, body, options);
          held.set(key, body);
        }
        override async get(...[key, options]: Get) {
          const bytes = await super.get(key, options);
          return options?.range ? bytes : new Uint8Array(held.get(key) ?? bytes);
        }
      })();
    },
  ],
  [
    'stores all of a view’s buffer',
    /keeps no hold of it/,
    () =>
      new (class extends MemoryTarget {
        override put(...[key, body, options]: Put) {
          return super.put(key, new Uint8Array(body.buffer), options);
        }
      })(),
  ],
  [
    'gives out its own bytes',
    /caller’s own/,
    () => {
      const cache = new Map<string, Uint8Array<ArrayBuffer>>();
      return new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          await super.put(key, body, options);
          cache.set(key, new Uint8Array(body));
        }
        override async get(...[key, options]: Get) {
          const bytes = await super.get(key, options);
          return options?.range ? bytes : (cache.get(key) ?? bytes);
        }
      })();
    },
  ],
  [
    'resolves before a put is to be seen',
    /put replaces what was there/,
    () =>
      new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          const copy = new Uint8Array(body);
          setImmediate(() => void super.put(key, copy, options).catch(() => {}));
        }
      })(),
  ],
  [
    'writes an object in two steps',
    /never seen in part/,
    () =>
      new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          if (body.length > 100_000 && !options?.createOnly) {
            await super.put(key, body.slice(0, 1000), options);
            await turn();
          }
          await super.put(key, body, options);
        }
      })(),
  ],
  [
    'deletes an object before it replaces it',
    /never seen in part/,
    () =>
      new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          if (!options?.createOnly) await super.delete(key);
          await turn();
          await super.put(key, body, options);
        }
      })(),
  ],
  [
    'says that nothing is there whatever went wrong',
    /what is not a key/,
    () =>
      new (class extends MemoryTarget {
        override async get(...args: Get) {
          return super.get(...args).catch(() => {
            throw notFound();
          });
        }
      })(),
  ],
  [
    'takes an absent object for an error to delete',
    /deleting what is not there/,
    () =>
      new (class extends MemoryTarget {
        override async delete(...args: Parameters<MemoryTarget['delete']>) {
          if (!(await this.stat(args[0], args[1]))) throw notFound();
          return super.delete(...args);
        }
      })(),
  ],
  [
    'deletes what is below a key along with it',
    /a put below an object, or above others/,
    () =>
      new (class extends MemoryTarget {
        override async delete(...[key, options]: Parameters<MemoryTarget['delete']>) {
          for (const { key: below } of await all(super.list(`${key}/`))) await super.delete(below);
          return super.delete(key, options);
        }
      })(),
  ],
  [
    'answers stat with an error where there is nothing',
    /undefined to stat/,
    () =>
      new (class extends MemoryTarget {
        override async stat(...args: Parameters<MemoryTarget['stat']>) {
          const info = await super.stat(...args);
          if (info === undefined) throw notFound();
          return info;
        }
      })(),
  ],
  [
    'cuts keys off',
    /keys of 512 characters/,
    () =>
      new (class extends MemoryTarget {
        override put(...[key, body, options]: Put) {
          return super.put(key.slice(0, 255), body, options);
        }
      })(),
  ],
  [
    'promises checksums that it does not keep',
    /SHA-256/,
    () =>
      new (class extends MemoryTarget {
        override async stat(...args: Parameters<MemoryTarget['stat']>) {
          const info = await super.stat(...args);
          return info && { key: info.key, size: info.size };
        }
      })(),
  ],
  [
    'takes no heed of signals',
    /signal that has aborted already/,
    () =>
      new (class extends MemoryTarget {
        override put(...[key, body]: Put) {
          return super.put(key, body);
        }
      })(),
  ],
  [
    'rejects an aborted call with an error of its own',
    /signal that has aborted already/,
    () =>
      new (class extends MemoryTarget {
        override async get(...args: Get) {
          if (args[1]?.signal?.aborted) throw new BackupError('TARGET_ERROR', 'aborted');
          return super.get(...args);
        }
      })(),
  ],
  [
    'goes on listing after an abort',
    /aborted under way rejects with the reason at its next/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...[prefix, options]: List): Listing {
          options?.signal?.throwIfAborted();
          yield* super.list(prefix, { after: options?.after });
        }
      })(),
  ],
  [
    'works on when it is closed',
    /stays closed/,
    () =>
      new (class extends MemoryTarget {
        override async [Symbol.asyncDispose]() {}
      })(),
  ],
  [
    'dates objects by one clock and tells the time of another',
    /storeTime is of the clock/,
    () =>
      new (class extends MemoryTarget {
        override async storeTime() {
          return new Date(0);
        }
      })(),
  ],
  [
    'takes no heed of ifTag',
    /ifTag returns the object with that tag/,
    () =>
      new (class extends MemoryTarget {
        override get(...[key, { range, signal } = {}]: Get) {
          return super.get(key, { range, signal });
        }
      })(),
  ],
  [
    'takes the size for a tag',
    /replaces another one of the same length/,
    () =>
      new (class extends MemoryTarget {
        override async put(...args: Put) {
          await super.put(...args);
        }
        override async stat(...args: Parameters<MemoryTarget['stat']>) {
          const info = await super.stat(...args);
          return info && { ...info, tag: `${info.size}` };
        }
        override async *list(...args: List): Listing {
          for await (const info of super.list(...args)) yield { ...info, tag: `${info.size}` };
        }
      })(),
  ],
  [
    'counts the writes of each object, and forgets the count when it deletes it',
    /created after another one of the same length was deleted/,
    () => {
      const writes = new Map<string, number>();
      return new (class extends MemoryTarget {
        override async put(...[key, body, options]: Put) {
          await super.put(key, body, options);
          writes.set(key, (writes.get(key) ?? 0) + 1);
        }
        override async delete(...args: Parameters<MemoryTarget['delete']>) {
          writes.delete(args[0]);
          return super.delete(...args);
        }
        override async stat(...args: Parameters<MemoryTarget['stat']>) {
          const info = await super.stat(...args);
          return info && { ...info, tag: `${writes.get(info.key)}` };
        }
        override async *list(...args: List): Listing {
          for await (const info of super.list(...args)) yield { ...info, tag: `${writes.get(info.key)}` };
        }
      })();
    },
  ],
  [
    'has other tags in its listings',
    /put, stat and list agree on the tag/,
    () =>
      new (class extends MemoryTarget {
        override async *list(...args: List): Listing {
          for await (const info of super.list(...args)) yield { ...info, tag: `"${info.tag}"` };
        }
      })(),
  ],
  [
    'gives an object a new tag whenever it is looked at',
    /put, stat and list agree on the tag/,
    () => {
      let looks = 0;
      return new (class extends MemoryTarget {
        override async stat(...args: Parameters<MemoryTarget['stat']>) {
          const info = await super.stat(...args);
          return info && { ...info, tag: `${looks++}` };
        }
      })();
    },
  ],
  [
    'looks up the tag of what it has put',
    /each resolves to the tag of its own object/,
    () =>
      new (class extends MemoryTarget {
        override async put(...args: Put) {
          await super.put(...args);
          await turn();
          return { tag: (await super.stat(args[0]))?.tag };
        }
      })(),
  ],
  [
    'compares the tag before it reads the object',
    /each resolves to the tag of its own object/,
    () =>
      new (class extends MemoryTarget {
        override async get(...[key, options]: Get) {
          const { ifTag, ...rest } = options ?? {};
          if (ifTag !== undefined) await super.get(key, options);
          await turn();
          return super.get(key, rest);
        }
      })(),
  ],
  [
    'answers when it is closed what time it is',
    /stays closed/,
    () =>
      new (class extends MemoryTarget {
        override async storeTime() {
          return new Date();
        }
      })(),
  ],
  [
    'deletes but the first of many',
    /deleteMany deletes just/,
    () =>
      new (class extends MemoryTarget {
        override deleteMany(...[keys, options]: Parameters<MemoryTarget['deleteMany']>) {
          return super.deleteMany(keys.slice(0, 1), options);
        }
      })(),
  ],
];

describe('the conformance suite notices a target that', () => {
  test.each(broken)('%s', async (_fault, noticedBy, open) => {
    const target = open();
    // One store for the case and its cleaning up, as a real one is.
    const cases = targetConformance({ open: async () => target, reset: async () => {} });
    const failed: string[] = [];
    for (const { name, run } of cases.filter(({ name }) => noticedBy.test(name))) {
      await run({ skip: () => {} }).catch(() => failed.push(name));
    }
    expect(failed).not.toEqual([]);
  });
});

test('every case has a name of its own', () => {
  const names = targetConformance({ open: async () => new MemoryTarget() }).map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});

test('a case that is skipped says why, and does nothing after', async () => {
  const reasons: (string | undefined)[] = [];
  const open = async () => new MemoryTarget({ createOnly: false });
  const racing = targetConformance({ open }).filter(({ name }) => name.includes('create'));
  for (const { run } of racing) await run({ skip: (reason) => reasons.push(reason) });
  expect(reasons).toEqual(['the target has no createOnly', 'the target has no createOnly']);
});

test('each case leaves the store as it found it, and resets it where it can', async () => {
  const store = new MemoryTarget();
  const shared: CloudTarget = Object.create(store, { [Symbol.asyncDispose]: { value: async () => {} } });
  for (const method of ['put', 'get', 'stat', 'list', 'delete', 'deleteMany', 'storeTime'] as const) {
    Object.defineProperty(shared, method, { value: (store[method] as () => unknown).bind(store) });
  }
  Object.defineProperty(shared, 'capabilities', { value: store.capabilities });
  await store.put('of-somebody-else', new Uint8Array(1));
  const cases = targetConformance({ open: async () => shared }).filter(({ name }) => !name.includes('closed'));
  for (const { run } of cases) await run({ skip: () => {} });
  expect((await all(store.list(''))).map(({ key }) => key)).toEqual(['of-somebody-else']);
  let resets = 0;
  const [first] = targetConformance({ open: async () => new MemoryTarget(), reset: async () => void resets++ });
  await first?.run({ skip: () => {} });
  expect(resets).toBe(1);
});
