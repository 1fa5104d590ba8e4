import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { BackupRepository, type CloudTarget, FileTarget } from '../../src/index.ts';
import { S3Target } from '../../src/s3.ts';
import { testOnS3 } from '../support/s3.ts';
import {
  BLOCK,
  load,
  makePlace,
  type Place,
  type Run,
  requireBuild,
  runDemo,
  s3Environment,
  sha256,
} from './support/run-demo.ts';

const VERDICT = 'all that came back is byte for byte the disk at its frozen instants';
const PASSPHRASE = 'correct horse battery staple';

let place: Place;

beforeAll(requireBuild);

beforeEach(async () => {
  const made = await makePlace();
  place = made;
  return () => made[Symbol.asyncDispose]();
});

function run(args: string[], ...rest: [env?: NodeJS.ProcessEnv, onOutput?: Parameters<typeof runDemo>[4]]) {
  return runDemo('back-up-a-live-image.ts', args, place, ...rest);
}

/** Calls `act` once, when `text` has been printed. */
function when(text: string, act: (kill: (signal: NodeJS.Signals) => void) => void) {
  let isDone = false;
  return (out: string, kill: (signal: NodeJS.Signals) => void) => {
    if (isDone || !out.includes(text)) return;
    isDone = true;
    act(kill);
  };
}

/** Changes a byte in the middle of a file. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
}

function filesIn(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** What the demo says the disk was, at the instants in turn. */
function instants({ out }: Run): string[] {
  return [...out.matchAll(/SHA-256 ([0-9a-f]{64})/g)].map(([, hex]) => hex as string);
}

/** A row of the closing table: bytes read, up and down, requests, seconds, as far as they are there. */
function row({ out }: Run, title: string): string {
  const line = out.split('\n').findLast((line) => line.startsWith(`  ${title}  `));
  expect(line, `a row for ${title}`).toBeDefined();
  return line!.slice(title.length + 2).trim();
}

/** Reads what the demo has left as any other program would. */
async function expectLeft(target: CloudTarget, sha256OfThird: string | undefined): Promise<void> {
  await using repository = await BackupRepository.open(target, { unlock: { passphrase: PASSPHRASE }, readOnly: true });
  const backups = await Array.fromAsync(repository.listBackups());
  expect(backups).toMatchObject([{ volume: 'disk', intact: true, metadata: { instant: 'third' } }]);
  await using image = await repository.openBackup(backups[0]!.id);
  const whole = new Uint8Array(image.size);
  await image.read(0, whole);
  expect(sha256(whole)).toBe(sha256OfThird);
}

/** Each takes seconds, so most are for `.ci/run`. */
const inCi = test.skipIf(!process.env.CI);

describe('to a folder', () => {
  test('what comes back of three backups under writes is the disk at their instants', async () => {
    const before = sha256(await readFile(place.image));
    const shown = await run([place.image, '--to', place.objects, ...load()]);
    expect(shown.err).toBe('');
    expect(shown).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    expect(shown.out).toContain('what changed was tracked');
    expect(shown.out, 'pruning frees what only forgotten backups needed').toMatch(
      /[1-9][\d.]* [KM]iB in \d+ objects? freed/,
    );
    expect(row(shown, 'first backup')).toMatch(
      /^1[56](\.\d)? MiB +1[01](\.\d)? MiB +\d+ +[\d.]+ +\d+ % +[01]\.\d\d : 1$/,
    );
    expect(row(shown, 'the second onto it'), 'only what differs moves').toMatch(
      /^(\d(\.\d)? MiB|[\d.]+ KiB) +\d+ +[\d.]+$/,
    );
    expect(row(shown, 'restore the third')).toMatch(/^1\d(\.\d)? MiB +\d+ +[\d.]+$/);

    const [first, second, third, ...rest] = instants(shown);
    expect(rest).toEqual([]);
    expect(new Set([first, second, third]).size, 'the disk was written to in between').toBe(3);
    await using target = new FileTarget(place.objects);
    await expectLeft(target, third);
    expect(await readdir(place.temporary)).toEqual([]);
    expect(sha256(await readFile(place.image)), 'the image given is not written to').toBe(before);
  });

  inCi('a difference is noticed', async () => {
    const tampering = when('restore the first', () => {
      const reference = filesIn(place.temporary).find((path) => path.endsWith('second-instant.img'));
      flip(reference!);
    });
    const shown = await run([place.image, ...load()], {}, tampering);
    expect(shown).toMatchObject({ code: 1, err: expect.stringContaining('differs from the second instant') });
    expect(shown.out).not.toContain(VERDICT);
    expect(await readdir(place.temporary)).toEqual([]);
  });

  inCi('damage in the store is noticed', async () => {
    const damaging = when('byte for byte the disk at the second instant', () => {
      for (const path of filesIn(join(place.objects, 'packs'))) flip(path);
    });
    const shown = await run([place.image, '--to', place.objects, ...load()], {}, damaging);
    expect(shown).toMatchObject({ code: 1, err: expect.stringMatching(/(RECORD|PACK|MAP)_\w+: /) });
    expect(shown.out).not.toContain(VERDICT);
  });

  inCi('a backup that overwrites alone complete does not wait for its second instruction', async () => {
    await writeFile(place.image, new Uint8Array(4 * BLOCK).fill(1));
    const args = [place.image, '--writes-per-second', '200', '--lazy-seconds', '600', '--seed', '1'];
    const shown = await run(
      args,
      {},
      when('asked meanwhile', (kill) => kill('SIGTERM')),
    );
    expect(shown).toMatchObject({ code: 143, out: expect.stringContaining('asked meanwhile: 4 stored') });
  });

  test('an earlier repository is not written into', async () => {
    await using target = new FileTarget(join(place.folder, 'used'));
    await (await BackupRepository.create(target, { encryption: 'none' })).close();
    const shown = await run([place.image, '--to', join(place.folder, 'used')]);
    expect(shown).toMatchObject({ code: 1, err: expect.stringContaining('holds objects already') });
  });

  inCi.each([
    ['SIGINT', 'Intercepting', 130],
    ['SIGTERM', 'restore the first', 143],
  ] as const)('%s at "%s" ends it and leaves no temporary file', async (signal, text, code) => {
    const lazy = text === 'Intercepting' ? ['--lazy-seconds', '600'] : load();
    const interrupted = await run(
      [place.image, ...lazy],
      {},
      when(text, (kill) => kill(signal)),
    );
    expect(interrupted).toMatchObject({ code, err: `interrupted by ${signal}\n` });
    expect(await readdir(place.temporary)).toEqual([]);
  });
});

test('a command line that makes no sense is explained', async () => {
  const restoring = await run(['--restore', join(place.folder, 'again.img'), '--to', place.objects]);
  expect(restoring).toMatchObject({
    code: 2,
    err: expect.stringContaining('--restore is an option of the other demo'),
  });
  const missing = await run([join(place.folder, 'no.img')]);
  expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('no.img is not a file') });
  const helped = await run(['--help']);
  expect(helped).toMatchObject({ code: 0, out: expect.stringContaining('back-up-a-live-image.ts [IMAGE]') });
});

testOnS3(
  'to S3: what comes back of three backups under writes is the disk at their instants',
  async (client, bucket) => {
    const shown = await run([place.image, '--to', `s3://${bucket}/demo/disk`, ...load()], s3Environment());
    expect(shown.err).toBe('');
    expect(shown).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    await using target = new S3Target({ client, bucket, prefix: 'demo/disk' });
    await expectLeft(target, instants(shown)[2]);
  },
);
