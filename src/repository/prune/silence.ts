import { mapConcurrently } from '../../common/map-concurrently.ts';
import { hostOf, livenessOf } from '../backup/session-owner.ts';
import type { LogState, Session } from '../format/log-state.ts';
import { type Age, condemningCollections } from './ages.ts';
import type { PackListing } from './pack-listing.ts';
import type { PruneRun } from './prune-run.ts';

/** What a collector makes of times: see `Ages`. */
export interface TimesTold {
  /** Open sessions to give up. */
  readonly fence: readonly number[];
  /** Fenced sessions that are not given up yet: their hosts may come back and adopt them (P6). */
  readonly keepFenced: ReadonlySet<number>;
  /** Sessions and collections that count from now on: their times lie ahead, or are not known. */
  readonly redate: readonly number[];
}

const AT_A_TIME = 16;

/** Asks for the age of whatever waits for something. Where a wait is 0 it is over, and nothing is asked. */
export async function judgeTimes(run: PruneRun, state: LogState, listing: PackListing): Promise<TimesTold> {
  const { graceMs, keepFencedMs, signal } = run.options;
  await run.ages.lookAgain();
  const fence = new Set<number>();
  const keepFenced = new Set<number>();
  const redate = new Set<number>();
  const waits = (seq: number, age: Age, waitMs: number) => {
    if (age.ms >= waitMs) return false;
    // @mutation what-lies-ahead-is-redated
    if (age.mustBeDated) redate.add(seq);
    return true;
  };
  const lookAtOpen = async (session: Session) => {
    if (await isSilent(run, session, listing, waits)) fence.add(session.seq);
  };
  const lookAtFenced = async (session: Session) => {
    if (keepFencedMs === 0 || !mayComeBack(session)) return;
    if (waits(session.seq, await run.ages.ofFence(session), keepFencedMs)) keepFenced.add(session.seq);
  };
  const lookAtCollection = async (collection: { readonly seq: number; readonly at: number }) => {
    if (graceMs > 0) waits(collection.seq, await run.ages.ofCollection(collection), graceMs);
  };
  const { open, dead } = mayBeSilent(run, state);
  for (const seq of dead) fence.add(seq);
  for await (const _ of mapConcurrently(open, lookAtOpen, AT_A_TIME)) signal?.throwIfAborted();
  for await (const _ of mapConcurrently(state.fenced.values(), lookAtFenced, AT_A_TIME)) signal?.throwIfAborted();
  for await (const _ of mapConcurrently(condemningCollections(state), lookAtCollection, AT_A_TIME))
    signal?.throwIfAborted();
  return { fence: [...fence], keepFenced, redate: [...redate] };
}

/** Dead repackers are given up at once: nobody comes back for them. What this process is at goes on. */
function mayBeSilent({ context }: PruneRun, state: LogState): { open: Session[]; dead: number[] } {
  const { repositoryId } = context.format;
  const livenesses = new Map(
    [...state.sessions.values()].map((each) => [each, livenessOf(each, repositoryId, context.owner)]),
  );
  const sessions = [...livenesses.keys()];
  const isRepackers = (each: Session) => livenesses.get(each) === 'dead' && each.volumes.size === 0;
  return {
    dead: sessions.filter(isRepackers).map(({ seq }) => seq),
    open: sessions.filter((each) => !isRepackers(each) && livenesses.get(each) !== 'own'),
  };
}

async function isSilent(
  { ages, options }: PruneRun,
  session: Session,
  listing: PackListing,
  waits: (seq: number, age: Age, waitMs: number) => boolean,
): Promise<boolean> {
  const { fenceAfterMs } = options;
  if (fenceAfterMs === 0) return true;
  const life = listing.lifeOf(session.seq);
  const isAlive = ages.isStores && life?.newestAt !== undefined && ages.now - life.newestAt < fenceAfterMs;
  if (isAlive) return false; // A sign of life: its other times don't matter, and need no request.
  return !waits(session.seq, await ages.ofSession(session, life), fenceAfterMs);
}

/** Whether somebody may still adopt the session: not a repacker's, nor one that the next session of its own host ended. */
function mayComeBack({ owner, volumes, fencedBy }: Session): boolean {
  return volumes.size > 0 && (fencedBy?.owner === undefined || hostOf(fencedBy.owner) !== hostOf(owner));
}
