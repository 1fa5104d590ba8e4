import { BackupError } from '../common/errors.ts';
import { expectBytes, expectCode, expectEqual, expectThat, outcomeOf } from './conformance.ts';
import { content, type TargetCase, type TargetTrial } from './target-object-cases.ts';

const WRITERS = 16;
const ROUNDS = 4;
const SIZE = 100_000;

/** Cases about concurrent calls on one key. */
export const targetRaceCases: readonly TargetCase[] = [
  {
    name: 'create-only refuses to replace an object and leaves it alone',
    async run({ target, key, context }) {
      if (!target.capabilities.createOnly) return context.skip('the target has no createOnly');
      await target.put(key('object'), content(10), { createOnly: true });
      const error = await expectCode(
        target.put(key('object'), content(20), { createOnly: true }),
        'OBJECT_EXISTS',
        'put',
      );
      expectThat(!error.retryable, 'OBJECT_EXISTS must not be retryable');
      expectBytes(await target.get(key('object')), content(10), 'the body');
      await target.put(key('object'), content(30));
      expectBytes(await target.get(key('object')), content(30), 'the body after a put that may replace');
      await target.delete(key('object'));
      await target.put(key('object'), content(40), { createOnly: true });
      expectBytes(await target.get(key('object')), content(40), 'the body created after it was deleted');
    },
  },
  {
    name: `of ${WRITERS} writers that create one object at once exactly one wins, whole`,
    async run({ target, key, context }) {
      if (!target.capabilities.createOnly) return context.skip('the target has no createOnly');
      for (let round = 0; round < ROUNDS; round++) {
        const name = key(`race-${round}/object`);
        const puts = Array.from({ length: WRITERS }, async (_, writer) => {
          // A conflict that means "again" is the writer's to repeat, not the adapter's.
          for (let attempt = 0; ; attempt++) {
            const outcome = await outcomeOf(target.put(name, content(SIZE + writer), { createOnly: true }));
            const again = outcome.rejected && BackupError.is(outcome.error, 'OBJECT_CONFLICT') && attempt < 100;
            if (!again) return outcome;
          }
        });
        const outcomes = await Promise.all(puts);
        const winners = outcomes.flatMap((outcome, writer) => (outcome.rejected ? [] : [writer]));
        expectEqual(winners.length, 1, `winners of round ${round}`);
        for (const outcome of outcomes) {
          if (!outcome.rejected) continue;
          expectThat(BackupError.is(outcome.error, 'OBJECT_EXISTS'), `a loser got ${String(outcome.error)}`);
        }
        expectBytes(await target.get(name), content(SIZE + (winners[0] ?? 0)), 'the body of the winner');
      }
    },
  },
  {
    name: 'without the capability create-only rejects with CREATE_ONLY_UNSUPPORTED and stores nothing',
    async run({ target, key, context }) {
      if (target.capabilities.createOnly) return context.skip('the target has createOnly');
      const put = target.put(key('object'), content(1), { createOnly: true });
      await expectCode(put, 'CREATE_ONLY_UNSUPPORTED', 'a create-only put');
      expectEqual(await target.stat(key('object')), undefined, 'stat after the refused put');
    },
  },
  {
    name: 'an object that is being replaced is never seen in part or absent',
    async run({ target, key }) {
      const name = key('object');
      const versions = [content(300_000, 1), content(200_001, 2), content(100_002, 3)];
      await target.put(name, versions[0] as Uint8Array<ArrayBuffer>);
      let writing = true;
      const write = async (worker: number) => {
        for (let round = 0; round < 12; round++) {
          await target.put(name, versions[(worker + round) % 3] as Uint8Array<ArrayBuffer>);
        }
      };
      const writers = Promise.all([0, 1, 2].map(write)).finally(() => {
        writing = false;
      });
      const read = async () => {
        do {
          const body = await target.get(name);
          const version = versions.find((each) => each.length === body.length);
          expectThat(version !== undefined, `a reader saw ${body.length} bytes, which nobody wrote`);
          expectBytes(body, version, 'what a reader saw');
          const info = await target.stat(name);
          expectThat(
            versions.some((each) => each.length === info?.size),
            `stat returned a size of ${info?.size}`,
          );
          await new Promise((resolve) => setImmediate(resolve)); // Reads that are answered at once leave writers no turn.
        } while (writing);
      };
      const outcomes = await Promise.allSettled([writers, read(), read(), read()]);
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    },
  },
  {
    name: 'neighbours may come and go while objects are put beside them',
    async run({ target, key }) {
      // On a file system the last to go takes the directory along, just as the next one comes.
      const work = async (worker: number) => {
        for (let round = 0; round < 15; round++) {
          const name = key(`shared/folder/object-${worker}`);
          await target.put(name, content(50 + worker));
          expectBytes(await target.get(name), content(50 + worker), 'the body');
          await target.delete(name);
        }
      };
      await Promise.all([0, 1, 2, 3, 4, 5].map(work));
    },
  },
];

/** Every call of a target that takes a signal. */
function callsOf({ target, key, prefix }: TargetTrial, signal: AbortSignal): [name: string, () => Promise<unknown>][] {
  const list = async () => {
    for await (const _ of target.list(prefix, { signal })) break;
  };
  const { deleteMany, storeTime, removeLeftovers } = target;
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
    ...(storeTime ? [['storeTime', () => storeTime.call(target, { signal })] as [string, () => Promise<unknown>]] : []),
    ...(removeLeftovers
      ? [
          ['removeLeftovers', () => removeLeftovers.call(target, { dryRun: true, signal })] as [
            string,
            () => Promise<unknown>,
          ],
        ]
      : []),
  ];
}

/** Cases about aborting. */
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
        // Each put has a buffer of its own, because an abandoned request may still read its buffer.
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
