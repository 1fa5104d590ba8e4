import type { AbortOptions } from '../../common/abort.ts';
import type { ObjectInfo } from '../../target/cloud-target.ts';
import { type PackName, packKey } from '../records/record.ts';
import type { RepositoryContext } from '../repository-context.ts';

/** A pack that a listing showed. */
export interface ListedPack extends PackName {
  readonly size: number;
  readonly retainUntil: Date | undefined;
}

/** What a listing of `packs/` showed. */
export interface PackListing {
  readonly packs: readonly ListedPack[];
  readonly bytes: number;
  /** Bytes of a pack; 0 where it was not there. */
  sizeOf(key: string): number;
  /** Keys of packs of which the listing says that an object lock forbids to delete them. Many stores don't list that. */
  locked(now: number): Set<string>;
}

const PACKS = 'packs/';
const KEY = /^packs\/([0-9a-f]{13})\/([0-9a-f]{32})$/;

/** All packs that are there. What else lies under their prefix is nobody's business. */
export async function listPacks(
  { target }: Pick<RepositoryContext, 'target'>,
  { signal }: AbortOptions,
): Promise<PackListing> {
  const packs: ListedPack[] = [];
  const sizes = new Map<string, number>();
  let bytes = 0;
  for await (const info of target.list(PACKS, { signal })) {
    const pack = listedPack(info);
    if (pack === undefined) continue;
    packs.push(pack);
    sizes.set(info.key, info.size);
    bytes += info.size;
  }
  return {
    packs,
    bytes,
    sizeOf: (key) => sizes.get(key) ?? 0,
    locked: (now) => new Set(packs.filter((pack) => isLocked(pack.retainUntil, now)).map(packKey)),
  };
}

/** Whether an object lock holds. */
export function isLocked(retainUntil: Date | undefined, now: number): boolean {
  return retainUntil !== undefined && retainUntil.getTime() > now;
}

function listedPack({ key, size, retainUntil }: ObjectInfo): ListedPack | undefined {
  const parts = KEY.exec(key);
  if (parts === null) return undefined;
  return { session: Number.parseInt(parts[1] as string, 16), random: parts[2] as string, size, retainUntil };
}
