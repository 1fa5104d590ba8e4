import type { AbortOptions } from '../common/abort.ts';
import type { ByteRange } from '../common/byte-range.ts';
import { BackupError } from '../common/errors.ts';
import type { Extent } from '../device/block-device.ts';
import { checkLength, fixedView } from '../device/door.ts';
import type { Preimage } from './preimages.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { VolumeCore } from './volume-core.ts';

/**
 * Reading a snapshot while the volume is written, without ever delaying a writer; the sweep of a backup reads like this
 * too. Rule R4: bytes from the device count only if, once the read has settled, the snapshot is live, the block has no
 * pre-image and `epoch[b] < s.epoch`. Otherwise they are discarded and the block is read again from where it is now. A
 * block only ever moves from the device to a pre-image, so this ends.
 */

/** Where a block's content as of a snapshot is. */
type Origin = 'device' | 'zero' | Preimage;

/** A part of a range, with the origin of its blocks. */
interface Part<O> extends ByteRange {
  readonly origin: O;
}

/** @throws `BLOCK_LOST`, `BLOCK_RELEASED` when the content does not exist any more */
function originOf(core: VolumeCore, record: SnapshotRecord, block: number): Origin {
  const { epoch } = record.point;
  const preimage = core.preimages.find(block, epoch);
  if (preimage !== undefined) return preimage;
  if (core.epochs.blocks.get(block) < epoch) return 'device';
  const state = record.states.get(block);
  if (state === 'zero') return 'zero';
  if (state === 'lost' || record.givenUp.has(block)) {
    throw new BackupError('BLOCK_LOST', `block ${block} is lost: its pre-image could not be preserved`);
  }
  throw new BackupError('BLOCK_RELEASED', `block ${block} is ${state}, and was overwritten after the instant`);
}

/** Whether the content of a part is now somewhere else than where it was read. */
function isElsewhere(core: VolumeCore, record: SnapshotRecord, { offset, origin }: Part<Origin>): boolean {
  const block = Math.floor(offset / core.blockSize);
  const { epoch } = record.point;
  const preimage = core.preimages.find(block, epoch);
  return preimage === undefined ? core.epochs.blocks.get(block) < epoch : preimage !== origin;
}

/** Fills `into` with the snapshot's bytes from `offset` on. */
export async function readSnapshot(
  core: VolumeCore,
  record: SnapshotRecord,
  offset: number,
  buffer: Uint8Array,
  options: AbortOptions | undefined,
): Promise<void> {
  // A buffer that grows meanwhile is filled to the length that was checked; one that is detached or shrinks fails at the end.
  const into = fixedView(buffer);
  const { length } = into;
  let missing: ByteRange[] = length === 0 ? [] : [{ offset, length }];
  while (missing.length > 0) {
    record.requireLive();
    const { parts, rest } = nextParts(core, record, missing);
    const buffers = parts.map((part) => into.subarray(part.offset - offset, part.offset - offset + part.length));
    // All reads settle first: none may still write to the caller's buffer when this call settles.
    const outcomes = await Promise.allSettled(
      parts.map((part, index) => fill(core, part, buffers[index] as Uint8Array, options)),
    );
    options?.signal?.throwIfAborted();
    record.requireLive();
    missing = [...parts.flatMap((part, index) => stillMissing(core, record, part, outcomes[index])), ...rest];
  }
  checkLength('into', into, length);
}

/** How many reads one call makes at a time, so that the memory they need in addition to the caller's buffer is bounded. */
const MAX_PARTS = 16;

/** Divides what is missing by origin, as much as is read at a time; neighbouring blocks on the device stay together. */
function nextParts(
  core: VolumeCore,
  record: SnapshotRecord,
  missing: readonly ByteRange[],
): { parts: Part<Origin>[]; rest: ByteRange[] } {
  const parts: { offset: number; length: number; origin: Origin }[] = [];
  for (const [index, range] of missing.entries()) {
    for (const { block, offset, length } of blocksOf(core, range)) {
      const origin = originOf(core, record, block);
      const last = parts.at(-1);
      if (origin === 'device' && last?.origin === 'device' && last.offset + last.length === offset) {
        last.length += length;
      } else if (parts.length < MAX_PARTS) {
        parts.push({ offset, length, origin });
      } else {
        const left = { offset, length: range.offset + range.length - offset };
        return { parts, rest: [left, ...missing.slice(index + 1)] };
      }
    }
  }
  return { parts, rest: [] };
}

function* blocksOf({ blockSize }: VolumeCore, { offset, length }: ByteRange) {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const block = Math.floor(at / blockSize);
    const next = Math.min(end, (block + 1) * blockSize);
    yield { block, offset: at, length: next - at };
    at = next;
  }
}

async function fill(
  core: VolumeCore,
  part: Part<Origin>,
  into: Uint8Array,
  options: AbortOptions | undefined,
): Promise<void> {
  const { origin } = part;
  if (origin === 'zero') {
    into.fill(0);
  } else if (origin === 'device') {
    await core.device.read(part.offset, into, options);
  } else {
    try {
      await core.preimages.read(origin, part.offset - origin.block * core.blockSize, into);
    } catch (error) {
      if (BackupError.is(error, 'SPILL_CORRUPT')) core.snapshots.loseUnreadable(origin, error);
      throw error;
    }
  }
}

/** What must be read again of a part whose read has settled. */
function stillMissing(
  core: VolumeCore,
  record: SnapshotRecord,
  part: Part<Origin>,
  outcome: PromiseSettledResult<void> | undefined,
): ByteRange[] {
  const failed = outcome?.status === 'rejected';
  if (part.origin !== 'device') {
    if (!failed) return [];
    // If the copy was found corrupt before its block was overwritten, the device or another copy has the content.
    if (BackupError.is(outcome.reason, 'SPILL_CORRUPT') && isElsewhere(core, record, part)) return [part];
    throw outcome.reason;
  }
  const blocks = [...blocksOf(core, part)];
  // @mutation looked-again
  const moved = blocks.filter(({ block }) => originOf(core, record, block) !== 'device');
  // The read may have failed only because of blocks that have moved from the device to a pre-image.
  // @mutation read-error
  if (failed && moved.length === 0) throw outcome.reason;
  return failed ? [part] : moved;
}

/** What is known of a range of the snapshot without reading it, by the same rule R4. */
export async function* snapshotExtents(
  core: VolumeCore,
  record: SnapshotRecord,
  offset: number,
  length: number,
  options: AbortOptions | undefined,
): AsyncGenerator<Extent> {
  for (const piece of pieces(core, { offset, length })) {
    options?.signal?.throwIfAborted();
    record.requireLive();
    for (const part of byOrigin(core, record, piece)) {
      const { origin } = part;
      if (origin !== 'device') {
        const isZero = origin === 'zero' || (typeof origin === 'object' && origin.allocation === undefined);
        yield { offset: part.offset, length: part.length, kind: isZero ? 'zero' : 'data' };
      } else if (core.device.extents === undefined) {
        yield { offset: part.offset, length: part.length, kind: 'data' };
      } else {
        const asking = Array.fromAsync(core.device.extents(part.offset, part.length, options));
        const [outcome] = await Promise.allSettled([asking]);
        options?.signal?.throwIfAborted();
        record.requireLive();
        // @mutation extents-looked-again
        const unmoved = byOrigin(core, record, part).every(({ origin }) => origin === 'device');
        if (!unmoved) yield { offset: part.offset, length: part.length, kind: 'data' };
        else if (outcome.status === 'fulfilled') yield* outcome.value;
        else throw outcome.reason;
      }
    }
  }
}

/** Extents are requested for this many blocks at a time, so that one overwrite does not invalidate the whole answer. */
const BLOCKS_A_PIECE = 256;

function* pieces({ blockSize }: VolumeCore, { offset, length }: ByteRange): Generator<ByteRange> {
  const pieceBytes = BLOCKS_A_PIECE * blockSize;
  for (let at = offset; at < offset + length; ) {
    const next = Math.min(offset + length, (Math.floor(at / pieceBytes) + 1) * pieceBytes);
    yield { offset: at, length: next - at };
    at = next;
  }
}

/** Divides a range by origin. A block that can't be read any more counts as data: extents promise no content. */
function byOrigin(core: VolumeCore, record: SnapshotRecord, range: ByteRange): Part<Origin | 'data'>[] {
  const parts: { offset: number; length: number; origin: Origin | 'data' }[] = [];
  for (const { block, offset, length } of blocksOf(core, range)) {
    let origin: Origin | 'data' = 'data';
    try {
      origin = originOf(core, record, block);
    } catch {}
    const last = parts.at(-1);
    if (last?.origin === origin) last.length += length;
    else parts.push({ offset, length, origin });
  }
  return parts;
}
