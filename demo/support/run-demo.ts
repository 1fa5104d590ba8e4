import { BackupError, type CloudTarget, withRetries } from 'cow-cloud-backup';
import { type CommandLine, type DemoCommand, readCommandLine, UsageError, usageOf } from './command-line.ts';
import { CountedTarget } from './counted-target.ts';
import { openTarget } from './open-target.ts';
import { Terminal } from './terminal.ts';
import { Interrupted, Workspace } from './workspace.ts';

/** What every demo is given. */
export interface DemoParts {
  readonly line: CommandLine;
  readonly terminal: Terminal;
  readonly workspace: Workspace;
  /** Where objects go; calls that fail for a while are made again. */
  readonly target: CloudTarget;
  /** What is asked of it. */
  readonly traffic: CountedTarget;
}

/** Runs a demo from the command line. The exit code is 0 only if `play` resolves. */
export async function runDemo(
  args: string[],
  command: DemoCommand,
  play: (parts: DemoParts) => Promise<void>,
): Promise<void> {
  const terminal = new Terminal();
  try {
    const line = readCommandLine(args, command);
    if (line === undefined) {
      terminal.print(usageOf(command));
      return;
    }
    await using workspace = await Workspace.make();
    try {
      await using place = await openTarget(line.to ?? workspace.path('objects'));
      await using traffic = new CountedTarget(place);
      await using target = withRetries(traffic);
      await play({ line, terminal, workspace, target, traffic });
    } catch (error) {
      // The first failure is the one that matters; the others come from the abort.
      throw workspace.signal.aborted ? workspace.signal.reason : error;
    }
  } catch (error) {
    terminal.keep();
    console.error(describe(error, command));
    process.exitCode = error instanceof UsageError ? 2 : error instanceof Interrupted ? error.exitCode : 1;
  }
}

/** What is there already would be mixed up with what comes, and lost. */
export async function refuseUsedTarget({ target, line, workspace }: DemoParts): Promise<void> {
  for await (const { key } of target.list('', { signal: workspace.signal })) {
    throw new Error(`${line.to} holds objects already, such as ${key}; name an empty place`);
  }
}

/** An error with what caused it, in words. */
function describe(error: unknown, command: DemoCommand): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof UsageError) return `${error.message}\n\n${usageOf(command)}`;
  const text = BackupError.is(error) ? `${error.code}: ${error.message}` : error.message;
  return error.cause === undefined ? text : `${text}\n  because: ${describe(error.cause, command)}`;
}
