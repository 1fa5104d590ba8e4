import { opening, sealing } from '../common/aead.ts';
import { bytesArgument, optionsArgument, textArgument } from '../common/arguments.ts';
import { isZero } from '../common/bytes.ts';
import { BackupError } from '../common/errors.ts';
import { runInSteps } from '../common/yield-to-event-loop.ts';
import type { BlockTransform } from './transform.ts';

/** Options of {@link encryption}. @public */
export interface EncryptionOptions {
  /**
   * What each block is bound to beside its number, such as the name of the volume: a block can be decrypted with the same
   * text only.
   *
   * @defaultValue `''`
   */
  context?: string | undefined;
}

const KEY_BYTES = 32;

/**
 * Encrypts each block with AES-256-GCM under a key of the host's, bound to the number of the block. Without the key nobody
 * can read a block, change it unnoticed, or put it in the place of another one. An older version of the same block is not
 * recognized: if each run stores all blocks, a `context` for each run binds its blocks together.
 *
 * Stored bytes: `nonce (12) || ciphertext || tag (16)`. The additional data is the number of the block as u64, big-endian,
 * and the context in UTF-8. The nonce is a keyed hash of random bytes and of the content, so that two copies of one process
 * memory never encrypt two texts with one nonce. One key is good for 2^32 blocks (NIST SP 800-38D, 8.3).
 *
 * @param key - 32 bytes, not all zeroes; they are copied
 * @throws TypeError for wrong arguments
 * @public
 */
export function encryption(key: Uint8Array, options: EncryptionOptions = {}): BlockTransform {
  // Before anything quotes it: a string is a passphrase, or a key in hex or base64.
  if (typeof key === 'string' || bytesArgument('key', key).length !== KEY_BYTES || isZero(key))
    throw new TypeError(`key must be a Uint8Array of ${KEY_BYTES} bytes that are not all zeroes`);
  const { context = '' } = optionsArgument('options', options, { context: true });
  if (context !== '') textArgument('options.context', context);
  const secret = Uint8Array.from(key);
  return {
    name: 'encryption',
    apply: (bytes, { block }) => runInSteps(sealing(secret, boundTo(block, context), bytes)),
    async undo(stored, { block }) {
      const bytes = await runInSteps(opening(secret, boundTo(block, context), stored));
      if (bytes !== undefined) return bytes;
      throw new BackupError('BLOCK_CORRUPT', 'its bytes were not encrypted for this block with this key and context');
    },
  };
}

function boundTo(block: number, context: string): Uint8Array {
  const aad = Buffer.alloc(8 + Buffer.byteLength(context));
  aad.writeBigUInt64BE(BigInt(block));
  aad.write(context, 8);
  return aad;
}
