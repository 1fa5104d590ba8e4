import { createRequire } from 'node:module';

/**
 * Two system calls that Node has no function for: flock(2), and lseek(2) with SEEK_DATA and SEEK_HOLE. They are made by
 * the optional package `koffi`, on Linux; without it locks are taken by a program, and holes are not seen.
 */

/** What is called of `koffi`. */
interface Koffi {
  load(path: null): { func(definition: string): KoffiFunction };
  errno(): number;
}

interface KoffiFunction {
  (...args: readonly number[]): number | bigint;
  async(...args: readonly [...number[], (error: unknown, result: number | bigint) => void]): void;
}

/** A call that failed gives the system's error number, negative; those from 0 are its result. */
export interface SystemCalls {
  flock(fd: number, operation: number): Promise<number>;
  /** On a thread of its own: what it asks for may have to be read from the disk. */
  lseek(fd: number, offset: number, whence: number): Promise<number>;
  /** At once. */
  lseekSync(fd: number, offset: number, whence: number): number;
}

/** Error numbers of Linux, on every architecture that Node runs on. */
export const ERRNO = { ENXIO: 6, EAGAIN: 11 } as const;

let found: SystemCalls | undefined;
let isLooked = false;

/** The calls, undefined where they can't be made. */
export function systemCalls(): SystemCalls | undefined {
  if (!isLooked) found = process.platform === 'linux' ? load() : undefined;
  isLooked = true;
  return found;
}

function load(): SystemCalls | undefined {
  try {
    // Not by `import`: a bundler would want to have it, and in a vm context there may be no way to import. In a bundle of
    // CommonJS modules there is no `import.meta`.
    return callsOf(createRequire(import.meta.url ?? __filename)('koffi') as Koffi);
  } catch {
    return undefined; // Not installed, not for this processor, or denied by the permission model (--allow-addons).
  }
}

/** The calls as `koffi` makes them. */
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
    // The error number belongs to that thread. Made again here the call says why, or succeeds.
    return result === -1 ? sync(call, args) : result;
  };
  return {
    flock: (...args) => onThread(flock, args),
    lseek: (...args) => onThread(lseek, args),
    lseekSync: (...args) => sync(lseek, args),
  };
}

/** Where `lseek` takes 32 bits there is `lseek64`; where there is none (musl) `lseek` takes 64. */
function seeker(libc: ReturnType<Koffi['load']>): KoffiFunction {
  try {
    return libc.func('int64_t lseek64(int fd, int64_t offset, int whence)');
  } catch {
    return libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
  }
}
