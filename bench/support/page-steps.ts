/** A catalogue in pages: moving rows into them, looking them up, and taking all of them in again. */
import { runInSteps } from '../../src/common/yield-to-event-loop.ts';
import { MemoryTarget } from '../../src/index.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../src/repository/format/checkpoint-codec.ts';
import { commitIdFor, decodingEntry, encodingEntry } from '../../src/repository/format/entry-codec.ts';
import type { LogEntry, LogFact, LogFactOf } from '../../src/repository/format/log-entry.ts';
import type { LogState } from '../../src/repository/format/log-state.ts';
import { decideForget } from '../../src/repository/log/entries/backups.ts';
import { foldEntries } from '../../src/repository/log/fold.ts';
import { PAGE_LIMITS } from '../../src/repository/log/pages/page-limits.ts';
import { type PageFiles, pageOut } from '../../src/repository/log/pages/page-out.ts';
import { PageStore } from '../../src/repository/log/pages/page-store.ts';
import { stateOf } from './codec-steps.ts';
import { cleanly, type Step } from './longest-step.ts';

const KEY = new Uint8Array(32).fill(7);
const COUNT = 100_000;
const SOME = 10_000;

export async function pages(anyStep: Step): Promise<void> {
  const step = cleanly(anyStep);
  const target = new MemoryTarget();
  const newStore = () => new PageStore({ target, logKey: KEY });
  const store = newStore();
  const files: PageFiles = {
    rows: (table, ref) => store.rows(table, ref),
    put: async (ref, bytes, rows) => {
      await store.put(ref, bytes, true, {});
      store.keep(ref, rows);
    },
  };
  const moved = (state: LogState, everything: boolean) =>
    pageOut(state, files, { logKey: KEY, everything, limits: PAGE_LIMITS });
  const whole = { ...stateOf(COUNT, COUNT), condemned: new Map() };
  const ids = [...whole.backups.keys()];
  const packs = [...whole.known].flatMap(([session, known]) =>
    [...known.packs.keys()].map((random) => ({ session, random })),
  );

  const paged = await step(`${COUNT} backups and packs: page out`, () => moved(whole, false));
  const checkpoint = await step('checkpoint of their pages: encode', () => encodeCheckpoint(KEY, paged));
  if (checkpoint === undefined) throw new Error('too large');
  const opened = await step('checkpoint of their pages: decode', () => decodeCheckpoint(KEY, paged.seq, checkpoint));
  const taken = await step('all pages: take in', () => newStore().takeIn(opened, 'all'));
  await step('all pages: take in, from memory', () => store.takeIn(opened, 'all'));
  await step(`pages of ${COUNT} ids: take in`, () => newStore().takeIn(opened, { ids }));
  await step(`pages of ${COUNT} packs: take in`, () => newStore().takeIn(opened, { packs }));
  const newest = Array.from({ length: 100 }, (_, n) => ({ volume: `volume ${n}`, count: 50 }));
  await step('the newest 50 backups of 100 volumes: take in', () => newStore().takeIn(opened, { newest }));

  const forgotten = ids.filter((_, n) => n % 10 === 0);
  await step(`forget ${SOME} of all: decide`, () => runInSteps(decideForget(taken, forgotten)));
  const after = await folded(step, `forget ${SOME} of all`, taken, { type: 'forget', backups: forgotten });
  await step(`forget ${SOME} of all: page out`, () => moved({ ...after, pages: opened.pages }, true));
  const loose = await folded(step, `forget ${SOME} in pages`, opened, { type: 'forget', backups: forgotten });
  const renewed = await step(`forget ${SOME} in pages: page out`, () => moved(loose, false));
  await step(`forget ${SOME} in pages: take in`, () => newStore().takeIn(loose, 'all'));
  const condemned = packs.filter((_, n) => n % 10 === 5);
  const collect: LogFactOf<'collect'> = {
    type: 'collect',
    ...{ session: undefined, newPacks: [], packs: condemned, sessions: [], fence: [], relocate: [] },
    ...{ gonePacks: [], goneSessions: [], redated: [] },
  };
  const collected = await folded(step, `collect ${SOME} in pages`, renewed, collect);
  await step(`collect ${SOME} in pages: page out all`, () => moved(collected, true));
}

/** An entry is encoded, decoded, and folded into a state. */
async function folded(step: Step, what: string, state: LogState, fact: LogFact): Promise<LogState> {
  const head = { seq: state.seq + 1, prev: state.hash, commitId: '', at: 1_800_000_000_000 };
  const commitId = await step(`${what}: id`, () => runInSteps(commitIdFor(KEY, { ...head, ...fact } as LogEntry)));
  const entry = { ...head, commitId, ...fact } as LogEntry;
  const { bytes } = await step(`${what}: encode`, () => runInSteps(encodingEntry(KEY, entry, [])));
  const decoded = await step(`${what}: decode`, () => runInSteps(decodingEntry(KEY, entry.seq, bytes)));
  return step(`${what}: fold`, () => foldEntries(state, [decoded]));
}
