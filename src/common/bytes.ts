const ZEROES = Buffer.alloc(64 * 1024);

/** Whether every byte is zero. It runs at memory speed: a `memcmp` against zeroes, which stops at the first difference. */
export function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROES.length) {
    const part = bytes.subarray(at, at + ZEROES.length);
    if (ZEROES.compare(part, 0, part.length, 0, part.length) !== 0) return false;
  }
  return true;
}

/** Returns `raw`, or a copy of it if it is a small part of a large buffer, all of which it would keep in memory. */
export function ownBytes(raw: Uint8Array): Uint8Array {
  return raw.buffer.byteLength > raw.byteLength * 2 + 1024 ? new Uint8Array(raw) : raw;
}

/** Overwrites a secret. Copies that the runtime made of it may live on. */
export function wipeBytes(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}
