import { expectBytes, expectEqual, expectThat, outcomeOf } from './conformance.ts';
import { content } from './target-object-cases.ts';
import type { TargetCase, TargetTrial } from './target-trial.ts';

/** Every call of a target, made with a signal. */
function callsOf({ target, key, prefix }: TargetTrial, signal: AbortSignal): [name: string, () => Promise<unknown>][] {
  const list = async () => {
    for await (const _ of target.list(prefix, { signal })) break;
  };
  const { deleteMany } = target;
  return [
    ['put', () => target.put(key('other'), content(100), { signal })],
    ['get', () => target.get(key('object'), { signal })],
    ['get of a range', () => target.get(key('object'), { signal, range: { offset: 1, length: 2 } })],
    ['stat', () => target.stat(key('object'), { signal })],
    ['list', list],
    ['delete', () => target.delete(key('absent'), { signal })],
    ...(deleteMany
      ? [['deleteMany', () => deleteMany.call(target, [key('absent')], { signal })] as [string, () => Promise<unknown>]]
      : []),
  ];
}

/** Aborting. */
export const targetAbortCases: readonly TargetCase[] = [
  {
    name: 'with a signal that has aborted already every call rejects with its reason and does nothing',
    async run(trial) {
      const { target, key } = trial;
      await target.put(key('object'), content(100));
      const reason = new Error('the reason');
      for (const [name, call] of callsOf(trial, AbortSignal.abort(reason))) {
        const outcome = await outcomeOf(call());
        expectThat(outcome.rejected && outcome.error === reason, `${name} did not reject with the signal's reason`);
      }
      expectEqual(await target.stat(key('other')), undefined, 'stat of what an aborted put was to store');
      expectBytes(await target.get(key('object')), content(100), 'the object that was there before');
    },
  },
  {
    name: 'a call that is aborted under way rejects with the reason, or was done already',
    async run(trial) {
      const { target, key } = trial;
      await target.put(key('object'), content(100));
      const calls = callsOf(trial, AbortSignal.abort()).map(([name]) => name);
      for (const name of calls) {
        const controller = new AbortController();
        const reason = new Error(`the reason of ${name}`);
        const call = callsOf(trial, controller.signal).find((each) => each[0] === name);
        const settled = outcomeOf(call?.[1]() ?? Promise.resolve());
        controller.abort(reason);
        const outcome = await settled;
        expectThat(
          !outcome.rejected || outcome.error === reason,
          `${name} rejected with something else than the reason`,
        );
      }
    },
  },
  {
    name: 'an aborted put leaves the object whole: as it was before or as it was to be',
    async run({ target, key }) {
      const name = key('object');
      const whole = [content(1000), ...[1, 2, 3, 4].map((seed) => content(1_500_000, seed))];
      await target.put(name, content(1000));
      for (let round = 1; round <= 4; round++) {
        const controller = new AbortController();
        // Each a buffer of its own, as `CloudTarget` asks: an abandoned request may still be reading it.
        const body = whole[round] as Uint8Array<ArrayBuffer>;
        const settled = outcomeOf(target.put(name, body, { signal: controller.signal }));
        for (let turn = 0; turn < round * 2; turn++) await new Promise((resolve) => setImmediate(resolve));
        controller.abort();
        await settled;
        const seen = await target.get(name);
        expectThat(
          whole.some((each) => Buffer.compare(each, seen) === 0),
          `${seen.length} bytes are there that nobody put as a whole`,
        );
      }
    },
  },
  {
    name: 'a listing that is aborted under way rejects with the reason at its next object',
    async run({ target, prefix, key }) {
      for (const name of ['a', 'b', 'c']) await target.put(key(name), content(1));
      const controller = new AbortController();
      const reason = new Error('the reason');
      const seen: string[] = [];
      const listing = async () => {
        for await (const info of target.list(prefix, { signal: controller.signal })) {
          seen.push(info.key);
          controller.abort(reason);
        }
      };
      const outcome = await outcomeOf(listing());
      expectThat(outcome.rejected && outcome.error === reason, 'the listing did not reject with the reason');
      expectEqual(seen, [key('a')], 'the objects listed before the abort');
    },
  },
];
