import { parseArgs } from 'node:util';

/** In what the command lines of the two demos differ. */
export interface DemoCommand {
  readonly script: string;
  /** What it does, in words. */
  readonly summary: string;
  /** Whether it knows `--restore`. */
  readonly canRestore: boolean;
}

const RESTORE_USAGE = `
  --restore FILE          only restore what an earlier run has left at --to, to a new file`;

export function usageOf({ script, summary, canRestore }: DemoCommand): string {
  return `node demo/${script} [IMAGE] [options]

${summary}
Without IMAGE an ext4 image of 512 MiB is made from real files of this machine. The writes go to a copy
of IMAGE.

  --to FOLDER             keep the objects there (otherwise they go with the other temporary files)
  --to s3://BUCKET/PREFIX as objects of an S3 server; S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY
                          in the environment say which and who${canRestore ? RESTORE_USAGE : ''}
  --in-place              write to IMAGE itself, not to a copy
  --lazy-seconds N        how long to go by interception alone before the sweep (default 6)
  --writes-per-second N   the load of the random writer (default 150)
  --seed N                of the random writer
`;
}

/** What the user asked for. */
export interface CommandLine {
  readonly image: string | undefined;
  readonly to: string | undefined;
  readonly restore: string | undefined;
  readonly inPlace: boolean;
  readonly lazyMs: number;
  readonly writesPerSecond: number;
  readonly seed: number;
}

/** A command line that can not be followed. */
export class UsageError extends Error {}

/** `undefined` when help was asked for. */
export function readCommandLine(args: string[], { canRestore }: DemoCommand): CommandLine | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [image, ...rest] = positionals;
  if (rest.length > 0) throw new UsageError('there can be one IMAGE');
  const { to, restore, 'in-place': inPlace = false } = values;
  if (inPlace && image === undefined) throw new UsageError('--in-place needs an IMAGE');
  if (restore !== undefined && !canRestore) throw new UsageError('--restore is an option of the other demo');
  if (restore !== undefined && to === undefined) throw new UsageError('--restore needs --to, to say from where');
  if (restore !== undefined && image !== undefined) throw new UsageError('--restore goes without an IMAGE');
  return {
    image,
    to,
    restore,
    inPlace,
    lazyMs: number('lazy-seconds', values['lazy-seconds'], 6, 0) * 1000,
    writesPerSecond: number('writes-per-second', values['writes-per-second'], 150, 0.001),
    seed: number('seed', values.seed, Math.floor(Math.random() * 2 ** 32), 0),
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        to: { type: 'string' },
        restore: { type: 'string' },
        'in-place': { type: 'boolean' },
        'lazy-seconds': { type: 'string' },
        'writes-per-second': { type: 'string' },
        seed: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function number(name: string, text: string | undefined, otherwise: number, least: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (text === '' || !Number.isFinite(value) || value < least) {
    throw new UsageError(`--${name} is a number from ${least} on`);
  }
  return value;
}
