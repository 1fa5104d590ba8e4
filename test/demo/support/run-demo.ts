import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed } from '../../support/randomness.ts';
import { s3 } from '../../support/s3.ts';

const ROOT = join(import.meta.dirname, '../../..');
const MIB = 1024 * 1024;
export const BLOCK = 64 * 1024;
/** Ends in the middle of a block. */
export const IMAGE_BYTES = 16 * MIB + 512;

export interface Run {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A folder for one test: an image, and room for what a demo makes of it. */
export interface Place {
  readonly folder: string;
  readonly image: string;
  /** What the demo takes for the temporary folder, to see whether anything stays there. */
  readonly temporary: string;
  /** Nothing is there yet. */
  readonly objects: string;
}

export function requireBuild(): void {
  if (existsSync(join(ROOT, 'dist/index.js'))) return;
  throw new Error('dist is missing: the demo runs on the built package, so `npm run build` comes first');
}

export async function makePlace(): Promise<Place & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'cow-cloud-backup-test-'));
  const temporary = join(folder, 'tmp');
  const image = join(folder, 'disk.img');
  await mkdir(temporary);
  const content = new Uint8Array(IMAGE_BYTES);
  content.set(randomBytesFrom(seededRandom(1), 10 * MIB), 2 * MIB);
  await writeFile(image, content);
  return {
    folder,
    image,
    temporary,
    objects: join(folder, 'objects'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Runs a demo; `onOutput` sees all that it has printed so far, and may send it a signal. */
export function runDemo(
  script: string,
  args: string[],
  { temporary }: Place,
  env: NodeJS.ProcessEnv = {},
  onOutput: (out: string, kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, 'demo', script), ...args], {
      cwd: ROOT,
      env: { ...process.env, TMPDIR: temporary, ...env },
    });
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      onOutput(out, (signal) => child.kill(signal));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err += text;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

/** Few enough writes that there is something left to sweep. */
export function load(): string[] {
  return ['--writes-per-second', '40', '--lazy-seconds', '1', '--seed', String(testSeed())];
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Where the tests' S3 server is, for a demo. */
export function s3Environment(): NodeJS.ProcessEnv {
  if (s3 === null) return {};
  return {
    S3_ENDPOINT: `${s3.useSSL ? 'https' : 'http'}://${s3.endPoint}:${s3.port}`,
    S3_ACCESS_KEY: s3.accessKey,
    S3_SECRET_KEY: s3.secretKey,
  };
}
