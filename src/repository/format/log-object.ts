import { opening, sealing } from '../../common/aead.ts';
import { runAtOnce, type Steps } from '../../common/yield-to-event-loop.ts';
import { logCorrupt } from './decode-values.ts';

/** How log entries, checkpoints and the objects under `cache/` are sealed: `docs/FORMAT.md`, sections 8 to 10. */

export type LogLabel = 'cow1 log' | 'cow1 checkpoint' | 'cow1 page' | 'cow1 verified' | 'cow1 verified log';

/** The object's bytes. @param logKey - 32 bytes, of an encrypted repository */
export function sealingObject(
  logKey: Uint8Array | undefined,
  label: LogLabel,
  seq: number,
  body: Uint8Array,
): Steps<Uint8Array<ArrayBuffer>> {
  return sealing(logKey, associated(label, seq), body, label);
}

/** As {@link sealingObject}, at once: for a short body. */
export function sealObject(...given: Parameters<typeof sealingObject>): Uint8Array<ArrayBuffer> {
  return runAtOnce(sealingObject(...given));
}

/** The body. @throws `LOG_CORRUPT` */
export function* openingObject(
  logKey: Uint8Array | undefined,
  label: LogLabel,
  seq: number,
  bytes: Uint8Array,
): Steps<Uint8Array> {
  const body = yield* opening(logKey, associated(label, seq), bytes, label);
  if (body === undefined) throw logCorrupt(logKey === undefined ? 'its checksum is wrong' : 'it does not decrypt');
  return body;
}

/** As {@link openingObject}, at once: for a short object. */
export function openObject(...given: Parameters<typeof openingObject>): Uint8Array {
  return runAtOnce(openingObject(...given));
}

/** The number keeps an entry from being passed off as another one. */
function associated(label: LogLabel, seq: number): Uint8Array {
  const bytes = Buffer.alloc(label.length + 8);
  bytes.write(label, 'ascii');
  bytes.writeBigUInt64LE(BigInt(seq), label.length);
  return bytes;
}
