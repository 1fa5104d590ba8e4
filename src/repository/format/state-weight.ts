import { StepCounter, type Steps } from '../../common/yield-to-event-loop.ts';
import type { KnownPacks, LogState, Session, StoredBackup } from './log-state.ts';

/**
 * What the parts of a state weigh: the bytes of memory that they take here, measured and rounded up
 * (`bench/hostile.ts`). A few KB can encode a state of any size, so the weight of one that comes from
 * a store is bounded by the bytes that were fetched: `docs/FORMAT.md`, section 9.
 */

/** The weight of one element of each kind, with its key. */
export const WEIGHT = {
  head: 160,
  page: 500,
  pack: 300,
  known: 500,
  name: 80,
  table: 500,
  condemnedPack: 450,
  condemnedSession: 48,
  relocation: 950,
  quarantined: 350,
  slot: 80,
  anchor: 200,
  feature: 80,
} as const;
const BACKUP = 600;
const ROOT = 450;
const CHUNK = 550;
const LOST_RANGE = 56;
const METADATA = 64;
const SESSION = 600;
const VOLUME = 64;
const ADOPTED = 16;

/** The weight that any state may have, however short its checkpoint is. */
const FREE_WEIGHT = 2 ** 23;
/** A backup weighs some thousand bytes, of which 16 are random, and most others differ from those of the backup before. */
const WEIGHT_OF_BYTE = 40;
const MAX_WEIGHT = 2 ** 28;

/** The most that a state may weigh whose checkpoint has a content of so many bytes, as it is stored. */
export function mostWeight(storedBytes: number): number {
  return Math.min(FREE_WEIGHT + WEIGHT_OF_BYTE * storedBytes, MAX_WEIGHT);
}

/** In memory a character takes one byte or two, and never more than twice its bytes of UTF-8. */
export function textWeight(text: string): number {
  return 2 * Buffer.byteLength(text);
}

export function backupWeight({ volume, trackingId, descriptor, metadata, hold }: StoredBackup): number {
  const { root, runs, lost } = descriptor;
  let weight = BACKUP + textWeight(volume) + textWeight(trackingId) + textWeight(hold?.reason ?? '');
  if (root !== undefined) weight += ROOT;
  for (const run of runs) weight += CHUNK * run.length;
  for (const name in metadata) weight += METADATA + textWeight(name) + textWeight(metadata[name] as string);
  return weight + LOST_RANGE * lost.length;
}

export function sessionWeight({ owner, volumes, adopted, fencedBy }: Session): number {
  let weight = SESSION + textWeight(owner) + textWeight(fencedBy?.owner ?? '') + ADOPTED * adopted.length;
  for (const volume of volumes.keys()) weight += VOLUME + textWeight(volume);
  return weight;
}

function featureWeight(feature: string): number {
  return WEIGHT.feature + textWeight(feature);
}

function knownWeight({ packs, tables, dead }: KnownPacks): number {
  return WEIGHT.known + WEIGHT.pack * packs.size + WEIGHT.name * dead.size + WEIGHT.table * tables.length;
}

/** The weight of a whole state. A reader takes its checkpoint only where {@link mostWeight} allows this much. */
export function* stateWeight(state: LogState): Steps<number> {
  const steps = new StepCounter();
  let weight =
    WEIGHT.condemnedPack * state.condemned.size +
    WEIGHT.condemnedSession * state.condemnedSessions.size +
    WEIGHT.relocation * state.relocations.size +
    WEIGHT.quarantined * state.quarantined.size +
    WEIGHT.anchor * state.anchors.length +
    WEIGHT.slot * (state.keySlots.size + state.removedSlots.size) +
    WEIGHT.page * (state.pages.backups.length + state.pages.packs.length) +
    WEIGHT.name * state.forgotten.size;
  const add = function* <T>(items: Iterable<T>, weightOf: (item: T) => number): Steps<void> {
    for (const item of items) {
      weight += weightOf(item);
      if (steps.isDue()) yield;
    }
  };
  yield* add(state.backups.values(), backupWeight);
  yield* add(state.pinned.values(), backupWeight);
  yield* add(state.features, featureWeight);
  yield* add(state.readerFeatures, featureWeight);
  yield* add(state.heads.keys(), (volume) => WEIGHT.head + textWeight(volume));
  yield* add(state.holds.values(), (hold) => WEIGHT.head + textWeight(hold?.reason ?? ''));
  yield* add(state.sessions.values(), sessionWeight);
  yield* add(state.fenced.values(), sessionWeight);
  yield* add(state.known.values(), knownWeight);
  yield* add(state.formerRelocations.values(), (tables) => WEIGHT.relocation * tables.length);
  return weight;
}
