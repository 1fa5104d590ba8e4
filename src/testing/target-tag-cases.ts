import type { ObjectInfo } from '../targets/cloud-target.ts';
import { tagOfPut } from '../targets/tags.ts';
import { expectBytes, expectCode, expectEqual, expectThat, outcomeOf } from './conformance.ts';
import { content, type TargetCase, type TargetTrial } from './target-object-cases.ts';

const WRITERS = 8;
const ROUNDS = 25;
const SIZE = 64;

type Body = Uint8Array<ArrayBuffer>;

/** A put of which it is known what it has stored: the body, and the tag that all calls give to it. */
interface Tagged {
  readonly body: Body;
  readonly tag: string;
}

async function listed({ target }: TargetTrial, name: string): Promise<ObjectInfo | undefined> {
  for await (const info of target.list(name)) if (info.key === name) return info;
  return undefined;
}

/**
 * Puts an object that is its only writer's, and looks at it in every way.
 *
 * @returns `undefined` if the target gives it no tag
 */
async function putTagged(trial: TargetTrial, name: string, body: Body): Promise<Tagged | undefined> {
  const ofPut = tagOfPut(await trial.target.put(name, body));
  const [ofStat, ofList] = [(await trial.target.stat(name))?.tag, (await listed(trial, name))?.tag];
  const [tag, ...others] = [ofPut, ofStat, ofList].filter((each) => each !== undefined);
  for (const other of others)
    expectEqual(other, tag, `a tag of ${name} (put ${ofPut}, stat ${ofStat}, list ${ofList})`);
  return tag === undefined ? undefined : { body, tag };
}

/** Fails the case if two of the puts, all of one key and of different bytes, have the same tag. */
function expectDistinct(puts: readonly Tagged[], what: string): void {
  expectEqual(new Set(puts.map(({ tag }) => tag)).size, puts.length, `${what}: number of tags`);
}

/** Lets others go on, also where the calls of a target never wait, as in memory. */
function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

const NO_TAGS = 'the target gives no tags';

/** Cases about tags, for targets that give them. */
export const targetTagCases: readonly TargetCase[] = [
  {
    name: 'put, stat and list agree on the tag of an object, which stays as long as nobody writes to it',
    async run(trial) {
      const { target, key, context } = trial;
      const first = await putTagged(trial, key('object'), content(SIZE));
      if (first === undefined) return context.skip(NO_TAGS);
      await target.get(key('object'));
      await target.put(key('neighbour'), content(SIZE));
      await target.delete(key('neighbour'));
      if (target.capabilities.createOnly) {
        const put = target.put(key('object'), content(SIZE, 1), { createOnly: true });
        await expectCode(put, 'OBJECT_EXISTS', 'a create-only put');
      }
      for (const info of [await target.stat(key('object')), await listed(trial, key('object'))]) {
        if (info?.tag !== undefined)
          expectEqual(info.tag, first.tag, 'the tag after calls that do not write to the object');
      }
      const empty = await putTagged(trial, key('empty'), new Uint8Array(0));
      expectThat(empty === undefined || empty.tag !== '', 'the tag of an empty object is an empty text');
    },
  },
  {
    name: 'an object that replaces another one of the same length has another tag',
    async run(trial) {
      const puts: Tagged[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const put = await putTagged(trial, trial.key('object'), content(SIZE, round));
        if (put === undefined) return trial.context.skip(NO_TAGS);
        puts.push(put);
      }
      expectDistinct(puts, 'objects that replaced one another');
    },
  },
  {
    name: 'an object that is created after another one of the same length was deleted has another tag',
    async run(trial) {
      const puts: Tagged[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const put = await putTagged(trial, trial.key('object'), content(SIZE, round));
        if (put === undefined) return trial.context.skip(NO_TAGS);
        puts.push(put);
        await trial.target.delete(trial.key('object'));
      }
      expectDistinct(puts, 'objects that were created and deleted');
    },
  },
  {
    name: 'ifTag returns the object with that tag, and OBJECT_CHANGED for any other',
    async run(trial) {
      const { target, key, context } = trial;
      const name = key('object');
      const first = await putTagged(trial, name, content(SIZE, 1));
      if (first === undefined) return context.skip(NO_TAGS);
      const ranges = [undefined, { offset: 10, length: 20 }, { offset: SIZE, length: 0 }];
      const bytesOf = (body: Body, range: (typeof ranges)[number]) =>
        range === undefined ? body : body.subarray(range.offset, range.offset + range.length);
      const expectOf = async ({ body, tag }: Tagged) => {
        for (const range of ranges) {
          expectBytes(await target.get(name, { range, ifTag: tag }), bytesOf(body, range), 'the bytes with their tag');
        }
      };
      const expectChanged = async (tag: string, what: string) => {
        for (const range of ranges) {
          const error = await expectCode(target.get(name, { range, ifTag: tag }), 'OBJECT_CHANGED', what);
          expectThat(!error.retryable, 'OBJECT_CHANGED must not be retryable');
        }
      };
      await expectOf(first);
      await expectChanged('no-object-has-this-tag', 'get with the tag of nothing');
      const second = await putTagged(trial, name, content(SIZE, 2));
      if (second === undefined) return context.skip(NO_TAGS);
      await expectOf(second);
      await target.put(key('short'), content(SIZE, 1));
      const long = (await target.stat(key('short')))?.tag;
      await target.put(key('short'), content(1));
      if (long !== undefined) {
        const get = target.get(key('short'), { range: { offset: SIZE / 2, length: 1 }, ifTag: long });
        await expectCode(get, 'OBJECT_CHANGED', 'get of a range with the tag of an object that a shorter one replaced');
      }
      await expectChanged(first.tag, 'get with the tag of an object that was replaced');
      await target.delete(name);
      await expectCode(
        target.get(name, { ifTag: second.tag }),
        'OBJECT_NOT_FOUND',
        'get with the tag of a deleted object',
      );
      const third = await putTagged(trial, name, content(SIZE, 3));
      if (third === undefined) return context.skip(NO_TAGS);
      await expectChanged(second.tag, 'get with the tag of an object that was deleted');
    },
  },
  {
    name: 'of puts of one key at once each resolves to the tag of its own object, and ifTag returns no other',
    async run({ target, key, context }) {
      const name = key('object');
      const known = new Map<string, Body>();
      let writing = true;
      const write = async (writer: number) => {
        for (let round = 0; round < 4; round++) {
          await pause();
          const body = content(SIZE, writer * 100 + round);
          const tag = tagOfPut(await target.put(name, body));
          if (tag === undefined) return;
          const other = known.get(tag);
          expectThat(other === undefined, `two puts of different bytes resolved to the tag ${tag}`);
          known.set(tag, body);
        }
      };
      const seen: Tagged[] = [];
      const read = async () => {
        for (let round = 0; writing && round < 200; round++) {
          await pause();
          const tag = (await target.stat(name))?.tag;
          if (tag === undefined) return;
          const outcome = await outcomeOf(target.get(name, { ifTag: tag }));
          if (outcome.rejected)
            await expectCode(Promise.reject(outcome.error), 'OBJECT_CHANGED', 'get with a tag that stat gave');
          else seen.push({ tag, body: new Uint8Array(outcome.value) });
        }
      };
      await target.put(name, content(SIZE, 9999));
      const writers = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer))).finally(() => {
        writing = false;
      });
      const outcomes = await Promise.allSettled([writers, read(), read()]);
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
      if (known.size === 0) return context.skip('no put resolves to a tag');
      for (const { tag, body } of seen) {
        const put = known.get(tag);
        if (put !== undefined) expectBytes(body, put, `the bytes of the object with the tag ${tag}`);
      }
      const last = (await target.stat(name))?.tag;
      const stored = last === undefined ? undefined : known.get(last);
      if (last === undefined) return;
      expectThat(stored !== undefined, `stat gives the tag ${last}, which no put has resolved to`);
      expectBytes(await target.get(name), stored, 'the object whose put resolved to the tag in stat');
    },
  },
];
