import { rename, rm, stat } from 'node:fs/promises';
import type { DemoCommand } from './command-line.ts';
import { sha256OfFile } from './compare.ts';
import type { Method } from './method.ts';
import { ProgressView } from './progress-view.ts';
import { RoundTrip } from './round-trip.ts';
import { type DemoParts, runDemo } from './run-demo.ts';

const COMMAND: DemoCommand = {
  script: 'compose-your-own-pipeline.ts',
  summary: 'Backs up an image file as of one instant while random writes to it go on, restores it and compares.',
  canRestore: true,
};

/** Runs the method from the command line. The exit code is 0 only if the restored image is the frozen one. */
export function runMethod(args: string[], method: Method): Promise<void> {
  return runDemo(args, COMMAND, async (parts) => {
    const { restore } = parts.line;
    if (restore === undefined) await new RoundTrip(method, parts).run();
    else await restoreOnly(method, restore, parts);
  });
}

/** Restores what an earlier run has stored. The file gets its name when all of it is there. */
async function restoreOnly(method: Method, path: string, { target, terminal, workspace }: DemoParts): Promise<void> {
  const { signal } = workspace;
  if (await stat(path).catch(() => undefined)) throw new Error(`${path} is there already`);
  const view = new ProgressView(terminal);
  const partPath = `${path}.part`;
  await rm(partPath, { force: true });
  try {
    await method.restore(target, partPath, {
      signal,
      onProgress: ({ doneBytes, totalBytes = 0 }) => view.bar('restoring', doneBytes, totalBytes),
    });
    await rename(partPath, path);
  } finally {
    terminal.draw([]);
    await rm(partPath, { force: true });
  }
  terminal.print(`${path} restored and verified, SHA-256 ${await sha256OfFile(path)}`);
}
