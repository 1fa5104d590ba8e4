import type { FileHandle } from 'node:fs/promises';

/** What one call to the system moves at most: 2 GiB and more end the process in `read` and come short in `write`. */
export const MAX_TRANSFER_BYTES = 1024 ** 3;

/** What is written at a time where somebody hears of it: small enough that a slow disk moves a progress bar. */
const TOLD_BYTES = 1024 ** 2;

/** Fills `into` from a file, from `offset` on, and returns how many bytes there were: fewer where the file ends. */
export async function readFully(file: Pick<FileHandle, 'read'>, into: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  while (done < into.byteLength) {
    const length = Math.min(into.byteLength - done, MAX_TRANSFER_BYTES);
    const { bytesRead } = await file.read(into, done, length, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/**
 * Writes all of `from` to a file, from its beginning on.
 *
 * @param length - what `from` held when the caller was called
 * @param onWritten - hears of the bytes as they are written, each time how many more
 * @throws `TypeError` when the buffer holds another number of bytes by now
 */
export async function writeFully(
  file: Pick<FileHandle, 'write'>,
  from: Uint8Array,
  length: number,
  onWritten?: ((bytes: number) => void) | undefined,
): Promise<void> {
  const most = onWritten === undefined ? MAX_TRANSFER_BYTES : TOLD_BYTES;
  for (let done = 0; done < length; ) {
    checkLength(from, length);
    const { bytesWritten } = await file.write(from, done, Math.min(length - done, most), done);
    done += bytesWritten;
    onWritten?.(bytesWritten);
  }
  checkLength(from, length);
}

/** A buffer can shrink to nothing behind a call: `WebAssembly.Memory.grow` and `transfer` detach it. */
function checkLength(bytes: Uint8Array, length: number): void {
  if (bytes.byteLength === length) return;
  throw new TypeError(`the body held ${length} bytes when it was given and holds ${bytes.byteLength} now`);
}
