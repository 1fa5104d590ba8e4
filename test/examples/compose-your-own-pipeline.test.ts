import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FileTarget } from '../../src/index.ts';
import { freshSeed, randomBytesFrom, seededRandom } from '../../src/testing/seeded-random.ts';
import { freshBucket, s3, s3Client } from '../support/s3.ts';

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLE = join(ROOT, 'examples/compose-your-own-pipeline.ts');
const MIB = 1024 * 1024;
const BLOCK = 64 * 1024;
/** Ends in the middle of a block. */
const IMAGE_BYTES = 16 * MIB + 512;
const VERDICT = 'restored image is byte for byte the image at the frozen instant';

let folder: string;
let image: string;
/** What the example takes for the temporary folder, to see whether anything stays there. */
let temporary: string;
let objects: string;

beforeAll(() => {
  if (existsSync(join(ROOT, 'dist/index.js'))) return;
  throw new Error('dist is missing: the example runs on the built package, so `npm run build` comes first');
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cow-cloud-backup-test-'));
  temporary = join(folder, 'tmp');
  objects = join(folder, 'objects');
  image = join(folder, 'disk.img');
  await mkdir(temporary);
  const content = new Uint8Array(IMAGE_BYTES);
  content.set(randomBytesFrom(seededRandom(1), 10 * MIB), 2 * MIB);
  await writeFile(image, content);
  return () => rm(folder, { recursive: true, force: true });
});

interface Run {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the example; `onOutput` sees all that it has printed so far, and may send it a signal. */
function runExample(
  args: string[],
  env: NodeJS.ProcessEnv = {},
  onOutput: (out: string, kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [EXAMPLE, ...args], {
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
function load(): string[] {
  return ['--writes-per-second', '40', '--lazy-seconds', '1', '--seed', String(freshSeed())];
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** What the example says the frozen image was. */
function frozenSha256({ out }: Run): string | undefined {
  return /SHA-256 ([0-9a-f]{64})/.exec(out)?.[1];
}

describe('to a folder', () => {
  test('what was stored while writes went on restores to the image at the frozen instant', async () => {
    const before = sha256(await readFile(image));
    const backup = await runExample([image, '--to', objects, ...load()]);
    expect(backup.err).toBe('');
    expect(backup).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    expect(backup.out).toMatch(/intercepted +[1-9]/);
    expect(backup.out).toMatch(/swept +[1-9]/);
    expect(await readdir(temporary)).toEqual([]);
    expect(sha256(await readFile(image)), 'the image given is not written to').toBe(before);

    const again = join(folder, 'again.img');
    expect(await runExample(['--restore', again, '--to', objects])).toMatchObject({ code: 0, err: '' });
    expect(sha256(await readFile(again))).toBe(frozenSha256(backup));
  });

  test('the objects are what the manifest says, and put together they are the image', async () => {
    const backup = await runExample([image, '--to', objects, ...load()]);
    expect(backup.code, backup.err).toBe(0);
    await using target = new FileTarget(objects);
    const manifest = JSON.parse(Buffer.from(await target.get('record/manifest.json')).toString());
    expect(manifest).toMatchObject({ size: IMAGE_BYTES, blockSize: BLOCK });
    const hashes: (string | null)[] = manifest.blocks;
    expect(hashes).toHaveLength(Math.ceil(IMAGE_BYTES / BLOCK));
    const whole = new Uint8Array(IMAGE_BYTES);
    const stored = await Array.fromAsync(target.list('blocks/'));
    for (const { key } of stored) {
      const block = Number(key.slice('blocks/'.length));
      const bytes = await target.get(key);
      expect(sha256(bytes)).toBe(hashes[block]);
      whole.set(bytes, block * BLOCK);
    }
    expect(stored).toHaveLength(hashes.filter((hash) => hash !== null).length);
    expect(stored.length, 'zero blocks are not stored').toBeLessThan(hashes.length);
    expect(sha256(whole)).toBe(frozenSha256(backup));
  });

  test('a backup that overwrites alone complete needs no sweep', async () => {
    await writeFile(image, new Uint8Array(4 * BLOCK).fill(1));
    const backup = await runExample([image, '--writes-per-second', '200', '--lazy-seconds', '30', '--seed', '1']);
    expect(backup).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    expect(backup.out).toMatch(/swept +0 B/);
  });

  test('a corrupted object is noticed, and no file is left that could be taken for the image', async () => {
    expect((await runExample([image, '--to', objects, ...load()])).code).toBe(0);
    {
      await using target = new FileTarget(objects);
      const [info] = await Array.fromAsync(target.list('blocks/'));
      const bytes = await target.get(info!.key);
      bytes[bytes.length - 1]! ^= 1;
      await target.put(info!.key, bytes);
    }
    const again = join(folder, 'again.img');
    const restore = await runExample(['--restore', again, '--to', objects]);
    expect(restore).toMatchObject({ code: 1, err: expect.stringContaining('CHECKSUM_MISMATCH: object blocks/') });
    expect((await readdir(folder)).toSorted()).toEqual(['disk.img', 'objects', 'tmp']);
  });

  test('a missing object is noticed', async () => {
    expect((await runExample([image, '--to', objects, ...load()])).code).toBe(0);
    {
      await using target = new FileTarget(objects);
      await target.delete('blocks/000040');
    }
    const restore = await runExample(['--restore', join(folder, 'again.img'), '--to', objects]);
    expect(restore).toMatchObject({ code: 1, err: expect.stringContaining('OBJECT_NOT_FOUND') });
  });

  test('an earlier backup is not written over', async () => {
    expect((await runExample([image, '--to', objects, ...load()])).code).toBe(0);
    const second = await runExample([image, '--to', objects, ...load()]);
    expect(second).toMatchObject({ code: 1, err: expect.stringContaining('holds objects already') });
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s ends it and leaves no temporary file', async (signal) => {
    let sent = false;
    const interrupted = await runExample([image, '--lazy-seconds', '600'], {}, (out, kill) => {
      if (!sent && out.includes('Intercepting')) kill(signal);
      sent ||= out.includes('Intercepting');
    });
    expect(interrupted).toMatchObject({ code: signal === 'SIGINT' ? 130 : 143, err: `interrupted by ${signal}\n` });
    expect(await readdir(temporary)).toEqual([]);
  });
});

test('a command line that makes no sense is explained', async () => {
  const run = await runExample(['--restore', join(folder, 'again.img')]);
  expect(run).toMatchObject({ code: 2, err: expect.stringContaining('--restore needs --to') });
  const missing = await runExample([join(folder, 'no.img')]);
  expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('no.img is not a file') });
});

describe.skipIf(s3 === null)('to S3', () => {
  let bucket: string;
  const client = s3 === null ? undefined : s3Client();

  beforeAll(async () => {
    bucket = await freshBucket(client!);
  });

  afterAll(async () => {
    const keys: string[] = [];
    for await (const { name } of client!.listObjectsV2(bucket, '', true)) keys.push(name);
    await client!.removeObjects(bucket, keys);
    await client!.removeBucket(bucket);
  });

  test('what was stored while writes went on restores to the image at the frozen instant', async () => {
    const env = {
      S3_ENDPOINT: `${s3!.useSSL ? 'https' : 'http'}://${s3!.endPoint}:${s3!.port}`,
      S3_ACCESS_KEY: s3!.accessKey,
      S3_SECRET_KEY: s3!.secretKey,
    };
    const place = `s3://${bucket}/demo/disk`;
    const backup = await runExample([image, '--to', place, ...load()], env);
    expect(backup.err).toBe('');
    expect(backup).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    const again = join(folder, 'again.img');
    expect(await runExample(['--restore', again, '--to', place], env)).toMatchObject({ code: 0, err: '' });
    expect(sha256(await readFile(again))).toBe(frozenSha256(backup));

    await client!.putObject(bucket, 'demo/disk/blocks/000040', Buffer.alloc(BLOCK, 1));
    const corrupted = await runExample(['--restore', join(folder, 'third.img'), '--to', place], env);
    expect(corrupted).toMatchObject({ code: 1, err: expect.stringContaining('CHECKSUM_MISMATCH') });
  });
});
