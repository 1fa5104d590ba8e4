import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { FileDeviceOptions } from '../../../src/device/file-device.ts';

const PROGRAM = fileURLToPath(new URL('./open-device.ts', import.meta.url));

/** Another process that tried to open a device. */
export interface OtherProcess {
  /** `open`, or the code of the error. */
  readonly outcome: string;
  /** Ends it as a crash does. */
  kill(): Promise<void>;
}

/** Opens a device in another process. */
export async function openElsewhere(
  path: string,
  options: FileDeviceOptions = {},
  env: NodeJS.ProcessEnv = process.env,
): Promise<OtherProcess> {
  const flags = ['--experimental-strip-types', '--disable-warning=ExperimentalWarning'];
  const child: ChildProcess = spawn(process.execPath, [...flags, PROGRAM, path, JSON.stringify(options)], {
    env: { ...env, NODE_OPTIONS: '' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  for await (const outcome of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    return {
      outcome,
      async kill() {
        child.kill('SIGKILL');
        await ended;
      },
    };
  }
  throw new Error(`the other process ended without a word: ${await ended}`);
}
