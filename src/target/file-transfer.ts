import type { FileHandle } from 'node:fs/promises';

/** What one call to the system moves at most: 2 GiB and more end the process in `read` and come short in `write`. */
export const MAX_TRANSFER_BYTES = 1024 ** 3;

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

/** Writes all of `from` to a file, from its beginning on. */
export async function writeFully(file: Pick<FileHandle, 'write'>, from: Uint8Array): Promise<void> {
  for (let done = 0; done < from.byteLength; ) {
    const length = Math.min(from.byteLength - done, MAX_TRANSFER_BYTES);
    done += (await file.write(from, done, length, done)).bytesWritten;
  }
}
