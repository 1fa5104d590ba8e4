import { StepCounter, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { PACKS_PREFIX, packKey, parsePackKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import type { Ages, SessionLife } from './ages.ts';

/** A pack as a listing shows it. */
export interface ListedPack extends PackName {
  readonly size: number;
  readonly retainUntil: Date | undefined;
}

/** A listing of `packs/`. */
export interface PackListing {
  readonly packs: readonly ListedPack[];
  readonly bytes: number;
  /** The size of a pack in bytes; 0 if it is not in the listing. */
  sizeOf(key: string): number;
  /** What the packs of a session show of its activity, by the clock of the `ages` that were given. */
  lifeOf(session: number): SessionLife | undefined;
  /** Keys of packs that an object lock protects according to the listing. The listings of many stores don't show locks. */
  locked(now: number): Set<string>;
}

/** Lists all packs. Objects under their prefix that are not packs are ignored. */
export async function listPacks(
  { target }: Pick<RepositoryContext, 'target'>,
  { signal, ages }: { readonly signal?: AbortSignal | undefined; readonly ages?: Ages | undefined },
): Promise<PackListing> {
  const packs: ListedPack[] = [];
  const locks: ListedPack[] = [];
  const sizes = new Map<string, number>();
  const lives = new Map<number, SessionLife>();
  let bytes = 0;
  const steps = new StepCounter();
  for await (const info of target.list(PACKS_PREFIX, { signal })) {
    if (steps.isDue()) await yieldToEventLoop();
    const name = parsePackKey(info.key);
    if (name === undefined) continue;
    const pack = { ...name, size: info.size, retainUntil: info.retainUntil };
    packs.push(pack);
    if (pack.retainUntil !== undefined) locks.push(pack);
    sizes.set(info.key, info.size);
    bytes += info.size;
    const at = info.modifiedAt?.getTime();
    if (ages !== undefined && at !== undefined) lives.set(pack.session, withPack(lives.get(pack.session), at, ages));
  }
  return {
    packs,
    bytes,
    sizeOf: (key) => sizes.get(key) ?? 0,
    lifeOf: (session) => lives.get(session),
    locked: (now) => new Set(locks.filter((pack) => isLocked(pack.retainUntil, now)).map(packKey)),
  };
}

function withPack(life: SessionLife | undefined, at: number, ages: Ages): SessionLife {
  if (ages.isAhead(at)) return { newestAt: life?.newestAt, isAhead: true };
  return { newestAt: Math.max(at, life?.newestAt ?? at), isAhead: life?.isAhead ?? false };
}

/** Whether an object lock still holds. */
export function isLocked(retainUntil: Date | undefined, now: number): boolean {
  return retainUntil !== undefined && retainUntil.getTime() > now;
}
