import { execFileSync } from 'node:child_process';
import { closeSync, openSync, truncateSync, writeFileSync } from 'node:fs';

/** A block special file over a sparse image. */
export interface LoopDevice {
  readonly path: string;
  remove(): void;
}

/** Makes one, or says why this machine does not let us. */
export function makeLoopDevice(image: string, sizeBytes: number, sectorSize = 512): LoopDevice | string {
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  try {
    const args = ['--find', '--show', '--sector-size', String(sectorSize), image];
    const path = execFileSync('losetup', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
    // Detached while it is open, it goes with its last user: nothing is left behind however this process ends.
    const user = openSync(path, 'r');
    execFileSync('losetup', ['--detach', path], { stdio: 'ignore' });
    return { path, remove: () => closeSync(user) };
  } catch (error) {
    const reason = String((error as { stderr?: string }).stderr || error).trim();
    return `no loop device can be made here (it takes root and /dev/loop-control): ${reason}`;
  }
}

/** Says it where whoever reads the test run sees it. */
export function sayLoudly(message: string): void {
  process.stderr.write(`\n*** NOT TESTED: ${message}\n\n`);
}
