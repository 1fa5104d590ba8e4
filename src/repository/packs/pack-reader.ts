import { BackupError } from '../../common/errors.ts';
import { continuingSha256, MAX_SHA256_PADDING, sha256Padding } from '../../common/sha256.ts';
import { runInSteps } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { packKey } from '../format/object-keys.ts';
import {
  type FooterRows,
  footerLength,
  HEAD_BYTES,
  openingFooter,
  type PackFooter,
  TRAILER_BYTES,
} from '../format/pack-footer.ts';
import type { PackName } from '../format/record.ts';

/** How many bytes of a pack's end are read at first; most footers fit. */
export const TAIL_GUESS_BYTES = 64 * 1024;

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
    const advice = 'run `verify`, and restore that object from a copy of the store';
    if (BackupError.is(error, 'OBJECT_NOT_FOUND')) {
      throw new BackupError('PACK_MISSING', `the pack ${packKey(pack)} is missing: ${advice}`, { cause: error });
    }
    if (BackupError.is(error, 'RANGE_UNSATISFIABLE')) {
      const range = `it does not have bytes ${offset} to ${offset + length}`;
      throw new BackupError('PACK_MISSING', `the pack ${packKey(pack)} is too short: ${range}; ${advice}`, {
        cause: error,
      });
    }
    throw error;
  }
}

/** A footer as it was read. */
export interface ReadFooter extends PackFooter<FooterRows> {
  /** The bytes of the pack behind the padding: the sealed footer, and the trailer. */
  readonly ending: Uint8Array;
}

/** Reads a pack's footer from its end, without any index: one request, two for a long footer. */
export async function readPackFooter(
  target: CloudTarget,
  pack: PackName,
  packBytes: number,
  footerKey: Uint8Array | undefined,
  signal?: AbortSignal,
): Promise<ReadFooter> {
  if (packBytes < HEAD_BYTES + TRAILER_BYTES) {
    throw new BackupError('PACK_CORRUPT', `${packKey(pack)} is too short to be a pack`);
  }
  const guess = Math.min(packBytes, TAIL_GUESS_BYTES);
  let end = await readPackBytes(target, pack, packBytes - guess, guess, signal);
  const sealedBytes = footerLength(end.subarray(end.length - TRAILER_BYTES), packBytes);
  const wanted = Math.min(packBytes, MAX_SHA256_PADDING + sealedBytes + TRAILER_BYTES);
  if (wanted > end.length) end = await readPackBytes(target, pack, packBytes - wanted, wanted, signal);
  const ending = end.subarray(end.length - sealedBytes - TRAILER_BYTES);
  const sealed = ending.subarray(0, sealedBytes);
  const footer = await runInSteps(openingFooter(sealed, pack, packBytes, footerKey));
  const padding = sha256Padding(footer.bodyBytes);
  const found = end.subarray(0, end.length - ending.length).subarray(-padding.length);
  if (Buffer.compare(found, padding) !== 0) {
    throw new BackupError('PACK_CORRUPT', `${packKey(pack)} is damaged: what stands before its footer is no padding`);
  }
  return { ...footer, ending };
}

/** The SHA-256 of a whole pack as its writer had it, without reading its records. */
export async function sha256OfPack({ bodySha256, bodyBytes, ending }: ReadFooter): Promise<Uint8Array> {
  return await runInSteps(continuingSha256(bodySha256, bodyBytes, ending));
}
