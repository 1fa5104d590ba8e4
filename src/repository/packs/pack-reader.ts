import { BackupError } from '../../common/errors.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { packKey } from '../format/object-keys.ts';
import { type FooterRow, footerLength, HEAD_BYTES, openingFooter, TRAILER_BYTES } from '../format/pack-footer.ts';
import type { PackName } from '../format/record.ts';

/** How many bytes of a pack's end are read at first; most footers fit. */
const TAIL_GUESS_BYTES = 64 * 1024;

/** Reads a range of a pack. @throws `PACK_MISSING` if the pack is not there or is shorter, and what the target throws */
export async function readPackBytes(
  target: CloudTarget,
  pack: PackName,
  offset: number,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  try {
    return await target.get(packKey(pack), { range: { offset, length }, signal });
  } catch (error) {
    if (BackupError.is(error, 'OBJECT_NOT_FOUND') || BackupError.is(error, 'RANGE_UNSATISFIABLE')) {
      throw new BackupError('PACK_MISSING', `${packKey(pack)} does not have bytes ${offset} to ${offset + length}`, {
        cause: error,
      });
    }
    throw error;
  }
}

/** Reads a pack's footer from its end, without any index: one request, two for a long footer. */
export async function readPackFooter(
  target: CloudTarget,
  pack: PackName,
  packBytes: number,
  footerKey: Uint8Array | undefined,
  signal?: AbortSignal,
): Promise<FooterRow[]> {
  if (packBytes < HEAD_BYTES + TRAILER_BYTES) {
    throw new BackupError('PACK_CORRUPT', `${packKey(pack)} is too short to be a pack`);
  }
  const guess = Math.min(packBytes, TAIL_GUESS_BYTES);
  let end = await readPackBytes(target, pack, packBytes - guess, guess, signal);
  const sealedBytes = footerLength(end.subarray(end.length - TRAILER_BYTES), packBytes);
  const wanted = sealedBytes + TRAILER_BYTES;
  if (wanted > end.length) end = await readPackBytes(target, pack, packBytes - wanted, wanted, signal);
  const sealed = end.subarray(end.length - wanted, end.length - TRAILER_BYTES);
  return await runInSteps(openingFooter(sealed, pack, packBytes, footerKey));
}
