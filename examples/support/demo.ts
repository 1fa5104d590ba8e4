import { rename, rm, stat } from 'node:fs/promises';
import { BackupError, type CloudTarget, withRetries } from 'cow-cloud-backup';
import { readCommandLine, USAGE, UsageError } from './command-line.ts';
import { sha256OfFile } from './compare.ts';
import type { Method } from './method.ts';
import { openTarget } from './open-target.ts';
import { ProgressView } from './progress-view.ts';
import { RoundTrip } from './round-trip.ts';
import { Terminal } from './terminal.ts';
import { Interrupted, Workspace } from './workspace.ts';

/** Runs the method from the command line. The exit code is 0 only if the restored image is the frozen one. */
export async function runDemo(args: string[], method: Method): Promise<void> {
  const terminal = new Terminal();
  try {
    const line = readCommandLine(args);
    if (line === undefined) {
      terminal.print(USAGE);
      return;
    }
    await using workspace = await Workspace.make();
    try {
      await using place = await openTarget(line.to ?? workspace.path('objects'));
      await using target = withRetries(place);
      if (line.restore === undefined) await new RoundTrip({ method, line, terminal, workspace, target }).run();
      else await restoreOnly(method, target, line.restore, terminal, workspace);
    } catch (error) {
      // What failed first is what matters; the rest came of being aborted.
      throw workspace.signal.aborted ? workspace.signal.reason : error;
    }
  } catch (error) {
    terminal.keep();
    console.error(describe(error));
    process.exitCode = error instanceof UsageError ? 2 : error instanceof Interrupted ? error.exitCode : 1;
  }
}

/** Restores what an earlier run has stored. The file gets its name when all of it is there. */
async function restoreOnly(
  method: Method,
  target: CloudTarget,
  path: string,
  terminal: Terminal,
  { signal, fail }: Workspace,
): Promise<void> {
  if (await stat(path).catch(() => undefined)) throw new Error(`${path} is there already`);
  const view = new ProgressView(terminal);
  const partPath = `${path}.part`;
  await rm(partPath, { force: true });
  try {
    let done = 0;
    await method.restore(target, partPath, {
      signal,
      fail,
      restored: (total) => view.bar('restoring', ++done, total),
    });
    await rename(partPath, path);
  } finally {
    terminal.draw([]);
    await rm(partPath, { force: true });
  }
  terminal.print(`${path} restored and verified, SHA-256 ${await sha256OfFile(path)}`);
}

/** An error with what caused it, in words. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof UsageError) return `${error.message}\n\n${USAGE}`;
  const text = BackupError.is(error) ? `${error.code}: ${error.message}` : error.message;
  return error.cause === undefined ? text : `${text}\n  because: ${describe(error.cause)}`;
}
