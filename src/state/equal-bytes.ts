/**
 * Where the run of equal bytes that begins at `from` ends, or `end`; long ones four bytes at a time. The bytes must begin
 * at a multiple of four of their buffer.
 */
export function endOfEqualBytes(bytes: Uint8Array, from: number, end: number): number {
  const byte = bytes[from] as number;
  let at = from + 1;
  const near = Math.min(end, (from + 16) & ~3);
  while (at < near && bytes[at] === byte) at++;
  if (at < near || at >= end) return at;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  const word = (byte * 0x01010101) >>> 0;
  const last = end >>> 2;
  let index = at >>> 2;
  while (
    index + 4 <= last &&
    words[index] === word &&
    words[index + 1] === word &&
    words[index + 2] === word &&
    words[index + 3] === word
  ) {
    index += 4;
  }
  while (index < last && words[index] === word) index++;
  at = index << 2;
  while (at < end && bytes[at] === byte) at++;
  return at;
}
