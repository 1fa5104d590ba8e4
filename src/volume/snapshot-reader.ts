import type { AbortOptions } from '../common/abort.ts';
import { BackupError } from '../common/errors.ts';
import type { Extent } from '../device/block-device.ts';
import { checkLength, fixedView } from '../device/door.ts';
import type { Preimage } from './preimages.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { VolumeCore } from './volume-core.ts';

/**
 * Reading a snapshot while the volume is written, without ever holding a writer up. Rule R4: what was read from the
 * device counts only if, once the read has settled, the snapshot is live, there is no pre-image and
 * `epoch[b] < s.epoch`; otherwise it is dropped and the answer is looked for again. A block only ever moves from the
 * device to a pre-image, so this ends.
 */

/** Where a block's content as of a snapshot is. */
type Place = 'device' | 'zero' | Preimage;

/** A stretch of the range asked for. */
interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/** Throws unless the snapshot can be read. */
export function requireLive(record: SnapshotRecord): void {
  if (record.status === 'live') return;
  throw record.error ?? new BackupError('CLOSED', 'the snapshot is closed');
}

/** @throws `BLOCK_LOST`, `BLOCK_RELEASED` when the content is nowhere any more */
function placeOf(core: VolumeCore, record: SnapshotRecord, block: number): Place {
  const { epoch } = record.point;
  const preimage = core.preimages.find(block, epoch);
  if (preimage !== undefined) return preimage;
  if (core.epochs.blocks.get(block) < epoch) return 'device';
  const state = record.states.get(block);
  if (state === 'zero') return 'zero';
  if (state === 'lost' || record.givenUp.has(block)) {
    throw new BackupError('BLOCK_LOST', `block ${block} is lost: its pre-image could not be preserved`);
  }
  throw new BackupError('BLOCK_RELEASED', `block ${block} is ${state}; it has been overwritten since`);
}

/** Whether a part's content is now somewhere else than where it was read. */
function isElsewhere(core: VolumeCore, record: SnapshotRecord, { offset, place }: Part): boolean {
  const block = Math.floor(offset / core.blockSize);
  const { epoch } = record.point;
  const preimage = core.preimages.find(block, epoch);
  return preimage === undefined ? core.epochs.blocks.get(block) < epoch : preimage !== place;
}

/** Fills `into` with the snapshot's bytes from `offset` on. */
export async function readSnapshot(
  core: VolumeCore,
  record: SnapshotRecord,
  offset: number,
  buffer: Uint8Array,
  options: AbortOptions | undefined,
): Promise<void> {
  // A buffer that grows meanwhile is filled as far as was asked; one that is detached or shrinks is found out at the end.
  const into = fixedView(buffer);
  const { length } = into;
  let missing: Stretch[] = length === 0 ? [] : [{ offset, length }];
  while (missing.length > 0) {
    requireLive(record);
    const { parts, rest } = nextParts(core, record, missing);
    const buffers = parts.map((part) => into.subarray(part.offset - offset, part.offset - offset + part.length));
    // All settle before anything is decided: no read may still be filling the caller's buffer when this one ends.
    const outcomes = await Promise.allSettled(
      parts.map((part, index) => fill(core, part, buffers[index] as Uint8Array, options)),
    );
    options?.signal?.throwIfAborted();
    requireLive(record);
    missing = [...parts.flatMap((part, index) => stillMissing(core, record, part, outcomes[index])), ...rest];
  }
  checkLength('into', into, length);
}

interface Part extends Stretch {
  readonly place: Place;
}

/** Reads under way at a time for one call, so that what they need besides the caller's buffer stays bounded. */
const MAX_PARTS = 16;

/** Cuts what is missing by place, as far as can be read at a time; neighbouring blocks on the device stay together. */
function nextParts(
  core: VolumeCore,
  record: SnapshotRecord,
  missing: readonly Stretch[],
): { parts: Part[]; rest: Stretch[] } {
  const parts: { offset: number; length: number; place: Place }[] = [];
  for (const [index, stretch] of missing.entries()) {
    for (const { block, offset, length } of blocksOf(core, stretch)) {
      const place = placeOf(core, record, block);
      const last = parts.at(-1);
      if (place === 'device' && last?.place === 'device' && last.offset + last.length === offset) {
        last.length += length;
      } else if (parts.length < MAX_PARTS) {
        parts.push({ offset, length, place });
      } else {
        const left = { offset, length: stretch.offset + stretch.length - offset };
        return { parts, rest: [left, ...missing.slice(index + 1)] };
      }
    }
  }
  return { parts, rest: [] };
}

function* blocksOf({ blockSize }: VolumeCore, { offset, length }: Stretch) {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const block = Math.floor(at / blockSize);
    const next = Math.min(end, (block + 1) * blockSize);
    yield { block, offset: at, length: next - at };
    at = next;
  }
}

async function fill(core: VolumeCore, part: Part, into: Uint8Array, options: AbortOptions | undefined): Promise<void> {
  const { place } = part;
  if (place === 'zero') {
    into.fill(0);
  } else if (place === 'device') {
    await core.device.read(part.offset, into, options);
  } else {
    try {
      await core.preimages.read(place, part.offset - place.block * core.blockSize, into);
    } catch (error) {
      if (BackupError.is(error, 'SPILL_CORRUPT')) core.snapshots.loseUnreadable(place, error);
      throw error;
    }
  }
}

/** What of a part has to be read again, now that its read has settled. */
function stillMissing(
  core: VolumeCore,
  record: SnapshotRecord,
  part: Part,
  outcome: PromiseSettledResult<void> | undefined,
): Stretch[] {
  const failed = outcome?.status === 'rejected';
  if (part.place !== 'device') {
    if (!failed) return [];
    // A copy found corrupt before its block was overwritten: the device has the content still, or another copy does.
    if (BackupError.is(outcome.reason, 'SPILL_CORRUPT') && isElsewhere(core, record, part)) return [part];
    throw outcome.reason;
  }
  const blocks = [...blocksOf(core, part)];
  // @mutation looked-again
  const moved = blocks.filter(({ block }) => placeOf(core, record, block) !== 'device');
  // The read may have failed because of what is no longer the device's to answer.
  // @mutation read-error
  if (failed && moved.length === 0) throw outcome.reason;
  return failed ? [part] : moved;
}

/** What is known of a range of the snapshot without reading it, by the same rule. */
export async function* snapshotExtents(
  core: VolumeCore,
  record: SnapshotRecord,
  offset: number,
  length: number,
  options: AbortOptions | undefined,
): AsyncGenerator<Extent> {
  for (const piece of pieces(core, { offset, length })) {
    options?.signal?.throwIfAborted();
    requireLive(record);
    for (const part of byPlaceOrData(core, record, piece)) {
      if (part.place !== 'device') {
        const isZero = part.place === 'zero' || (typeof part.place === 'object' && part.place.room === undefined);
        yield { offset: part.offset, length: part.length, kind: isZero ? 'zero' : 'data' };
      } else if (core.device.extents === undefined) {
        yield { offset: part.offset, length: part.length, kind: 'data' };
      } else {
        const asking = Array.fromAsync(core.device.extents(part.offset, part.length, options));
        const [outcome] = await Promise.allSettled([asking]);
        options?.signal?.throwIfAborted();
        requireLive(record);
        // @mutation extents-looked-again
        const unmoved = byPlaceOrData(core, record, part).every(({ place }) => place === 'device');
        if (!unmoved) yield { offset: part.offset, length: part.length, kind: 'data' };
        else if (outcome.status === 'fulfilled') yield* outcome.value;
        else throw outcome.reason;
      }
    }
  }
}

/** Extents are asked for so many blocks at a time, so that one overwrite does not void the answer for all. */
const BLOCKS_A_PIECE = 256;

function* pieces({ blockSize }: VolumeCore, { offset, length }: Stretch): Generator<Stretch> {
  const pieceBytes = BLOCKS_A_PIECE * blockSize;
  for (let at = offset; at < offset + length; ) {
    const next = Math.min(offset + length, (Math.floor(at / pieceBytes) + 1) * pieceBytes);
    yield { offset: at, length: next - at };
    at = next;
  }
}

/** As `byPlace`, but a block that can't be read any more is data like any other: extents promise no content. */
function byPlaceOrData(
  core: VolumeCore,
  record: SnapshotRecord,
  stretch: Stretch,
): (Stretch & { place: Place | 'data' })[] {
  return [...blocksOf(core, stretch)].reduce<{ offset: number; length: number; place: Place | 'data' }[]>(
    (parts, { block, offset, length }) => {
      let place: Place | 'data';
      try {
        place = placeOf(core, record, block);
      } catch {
        place = 'data';
      }
      const last = parts.at(-1);
      if (last !== undefined && last.place === place) last.length += length;
      else parts.push({ offset, length, place });
      return parts;
    },
    [],
  );
}
