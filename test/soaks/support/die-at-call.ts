import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

/** Kills this process with SIGKILL just before its `countdown`-th call of the filesystem from now on. */
export async function dieAtCall(countdown: number, anyFile: string): Promise<void> {
  let left = countdown;
  const counted = (holder: object, name: string) => {
    const real = Reflect.get(holder, name) as (...args: unknown[]) => unknown;
    Reflect.set(holder, name, function (this: unknown, ...args: unknown[]) {
      left--;
      if (left <= 0) process.kill(process.pid, 'SIGKILL');
      return real.apply(this, args);
    });
  };
  const handle = await fs.open(anyFile);
  const FileHandle = Object.getPrototypeOf(handle) as object;
  await handle.close();
  for (const name of ['open', 'link', 'rename', 'unlink', 'rm', 'rmdir', 'mkdir', 'lstat']) counted(fs, name);
  for (const name of ['write', 'read', 'sync', 'close']) if (name in FileHandle) counted(FileHandle, name);
  syncBuiltinESMExports();
}
