import { isArrayBuffer } from '../../common/realms.ts';

/**
 * Gives the memory of a buffer that nobody else has back at once. Left to the garbage collector, the buffers of the blocks
 * that a thread seals come to some hundred megabytes before it looks at them.
 *
 * @param allocatedBytes - what was asked for when it was made: less than half of Node's pool comes out of the pool, which
 * others use
 */
export function freeNow(bytes: Uint8Array | undefined, allocatedBytes: number): void {
  if (bytes === undefined || allocatedBytes < Buffer.poolSize >>> 1) return;
  if (isArrayBuffer(bytes.buffer)) bytes.buffer.transfer(0);
}
