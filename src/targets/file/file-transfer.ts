import type { FileHandle } from 'node:fs/promises';

/** The most bytes of one system call. With 2 GiB or more, `read` ends the process and `write` writes less. */
export const MAX_TRANSFER_BYTES = 1024 ** 3;

/** The bytes that are written in one call when progress is reported. A progress bar should move on a slow disk, too. */
const REPORTED_BYTES = 1024 ** 2;

/** Fills `into` from a file, from `offset` on. @returns the number of bytes that were read; it is smaller at the end of the file */
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

/** Writes all of `from` to the beginning of a file. @param length - its length when the call of the host began */
export async function writeFully(
  file: Pick<FileHandle, 'write'>,
  from: Uint8Array,
  length: number,
  onWritten?: ((bytes: number) => void) | undefined,
): Promise<void> {
  const most = onWritten === undefined ? MAX_TRANSFER_BYTES : REPORTED_BYTES;
  for (let done = 0; done < length; ) {
    checkLength(from, length);
    const { bytesWritten } = await file.write(from, done, Math.min(length - done, most), done);
    done += bytesWritten;
    onWritten?.(bytesWritten);
  }
  checkLength(from, length);
}

/** A buffer may be detached during a call, by `WebAssembly.Memory.grow` or by `transfer`. */
function checkLength(bytes: Uint8Array, length: number): void {
  if (bytes.byteLength === length) return;
  throw new TypeError(`the body had ${length} bytes when the call began and has ${bytes.byteLength} now`);
}
