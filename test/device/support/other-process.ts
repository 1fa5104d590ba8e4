import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { FileDeviceOptions } from '../../../src/device/file-device-options.ts';

const PROGRAM = fileURLToPath(new URL('./open-device.ts', import.meta.url));

/** Another process that tried to open a device. */
export interface OtherProcess {
  /** `open`, or the code of the error. */
  readonly outcome: string;
  /** Of the error. */
  readonly message: string;
  /** Ends it as a crash does. */
  kill(): Promise<void>;
}

/** Opens a device in another process. */
export async function openElsewhere(
  path: string,
  options: FileDeviceOptions = {},
  env: NodeJS.ProcessEnv = process.env,
  nodeFlags: readonly string[] = [],
  wrapper: readonly string[] = [],
): Promise<OtherProcess> {
  const flags = ['--experimental-strip-types', '--disable-warning=ExperimentalWarning'];
  const [command = '', ...args] = [
    ...wrapper,
    process.execPath,
    ...flags,
    ...nodeFlags,
    PROGRAM,
    path,
    JSON.stringify(options),
  ];
  const child: ChildProcess = spawn(command, args, {
    env: { ...env, NODE_OPTIONS: '' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const [outcome = '', message = ''] = line.split('\t');
    return {
      outcome,
      message,
      async kill() {
        // Behind a wrapper it is the wrapper's child that has the device; the wrapper ends with it.
        if (wrapper.length === 0) child.kill('SIGKILL');
        else process.kill(onlyChildOf(child.pid as number), 'SIGKILL');
        await ended;
      },
    };
  }
  throw new Error(`the other process ended without a word: ${await ended}`);
}

function onlyChildOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
}
