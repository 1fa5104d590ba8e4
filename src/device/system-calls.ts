import { createRequire } from 'node:module';

/**
 * Two system calls for which Node has no function: flock(2), and lseek(2) with SEEK_DATA and SEEK_HOLE. On Linux, the optional
 * package `koffi` makes them. Without it, a program takes the locks, and holes are not detected.
 */

/** The part of `koffi` that is used. */
interface Koffi {
  load(path: null): { func(definition: string): KoffiFunction };
  errno(): number;
}

interface KoffiFunction {
  (...args: readonly number[]): number | bigint;
  async(...args: readonly [...number[], (error: unknown, result: number | bigint) => void]): void;
}

/** The result of a call that failed is the negative error number of the system. */
export interface SystemCalls {
  flock(fd: number, operation: number): Promise<number>;
  /** Runs on another thread, because the answer may have to be read from the disk. */
  lseek(fd: number, offset: number, whence: number): Promise<number>;
  lseekSync(fd: number, offset: number, whence: number): number;
}

/** Error numbers of Linux, which are the same on every architecture that Node runs on. */
export const ERRNO = { ENXIO: 6, EAGAIN: 11 } as const;

let found: SystemCalls | undefined;
let isLooked = false;

/** The system calls; `undefined` if they are not available. */
export function systemCalls(): SystemCalls | undefined {
  if (!isLooked) found = process.platform === 'linux' ? load() : undefined;
  isLooked = true;
  return found;
}

function load(): SystemCalls | undefined {
  try {
    // A bundler would try to resolve an `import`, and a vm context may not support it. A bundle of CommonJS modules has no
    // `import.meta`.
    return callsOf(createRequire(import.meta.url ?? __filename)('koffi') as Koffi);
  } catch {
    return undefined; // It is not installed, not built for this processor, or denied by the permission model (--allow-addons).
  }
}

/** The system calls by means of `koffi`. */
export function callsOf(koffi: Koffi): SystemCalls {
  const libc = koffi.load(null);
  const flock = libc.func('int flock(int fd, int operation)');
  const lseek = seeker(libc);
  const sync = (call: KoffiFunction, args: readonly number[]): number => {
    const result = Number(call(...args));
    return result === -1 ? -koffi.errno() : result;
  };
  const onThread = async (call: KoffiFunction, args: readonly number[]): Promise<number> => {
    const result = await new Promise<number>((resolve, reject) => {
      call.async(...args, (error, value) => (error ? reject(error) : resolve(Number(value))));
    });
    // The error number belongs to the other thread. The call is repeated on this one, to get it here or to succeed.
    return result === -1 ? sync(call, args) : result;
  };
  return {
    flock: (...args) => onThread(flock, args),
    lseek: (...args) => onThread(lseek, args),
    lseekSync: (...args) => sync(lseek, args),
  };
}

/** `lseek64`, because `lseek` may take only 32 bits. If it does not exist (musl), `lseek` takes 64 bits. */
function seeker(libc: ReturnType<Koffi['load']>): KoffiFunction {
  try {
    return libc.func('int64_t lseek64(int fd, int64_t offset, int whence)');
  } catch {
    return libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
  }
}
