import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BackupRepository } from '../../src/index.ts';
import { S3Target } from '../../src/s3.ts';
import { specifiersIn } from '../package/support/source-imports.ts';
import { freshBucket, s3, s3Client } from '../support/s3.ts';

/** The examples as their readers run them: each copied alone into a project that has the built package. */

const root = join(import.meta.dirname, '../..');
const examples = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.ts'));
const textOf = (name: string) => readFileSync(join(root, 'examples', name), 'utf8');
const run = promisify(execFile);
let project: string;

beforeAll(() => {
  if (!existsSync(join(root, 'dist/index.js'))) {
    throw new Error('dist is missing: the examples run on the built package, so `npm run build` comes first');
  }
  project = mkdtempSync(join(tmpdir(), 'examples-'));
  mkdirSync(join(project, 'node_modules'));
  symlinkSync(root, join(project, 'node_modules/cow-cloud-backup'));
  symlinkSync(join(root, 'node_modules/minio'), join(project, 'node_modules/minio'));
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'reader', private: true, type: 'module' }));
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

/** What Node says of `node:sqlite`, as long as that is an experiment: nothing else may be printed there. */
const SQLITE_WARNING =
  /^\(node:\d+\) ExperimentalWarning: SQLite is an experimental feature .*\n\(Use `node --trace-warnings .*\n$/;

/** What a copy of an example prints. It must succeed, complain about nothing and leave no file behind. */
async function printedBy(name: string, env: NodeJS.ProcessEnv = {}, args: string[] = []): Promise<string> {
  const folder = mkdtempSync(join(project, `${basename(name, '.ts')}-`));
  const temporary = join(folder, 'tmp');
  mkdirSync(temporary);
  writeFileSync(join(folder, name), textOf(name));
  const { stdout, stderr } = await run(process.execPath, [name, ...args], {
    cwd: folder,
    env: { ...process.env, TMPDIR: temporary, NODE_NO_WARNINGS: '0', ...env },
  });
  const isOnSqlite = specifiersIn(textOf(name)).includes('node:sqlite');
  expect(isOnSqlite ? stderr.replace(SQLITE_WARNING, '') : stderr).toBe('');
  expect(readdirSync(temporary)).toEqual([]);
  expect(readdirSync(folder).toSorted()).toEqual([name, 'tmp'].toSorted());
  return stdout;
}

/** The numbers that the first group and the next ones of a pattern match. */
function numbersIn(text: string, pattern: RegExp): number[] {
  const [, ...groups] = pattern.exec(text) ?? [];
  expect(groups, `${pattern} in: ${text}`).not.toEqual([]);
  return groups.map(Number);
}

/** What each example has to print, by its name. */
const PRINTS: Readonly<Record<string, (printed: string) => void>> = {
  'ask-which-blocks-are-safe.ts': (printed) => {
    expect(printed).toMatch(/^at the instant: 0 blocks are safe, 0 on their way, 1024 untouched$/m);
    // How far the ten have got by then depends on the speed of the machine.
    const overwritten = /^after overwriting ten blocks: (\d+) blocks are safe, (\d+) on their way, 1014 untouched$/m;
    const [safe, onTheirWay] = numbersIn(printed, overwritten) as [number, number];
    expect(safe + onTheirWay).toBe(10);
    expect(printed).toMatch(/^ {2}block 99 is pending\n {2}block 100 is (preserved|storing|stored)$/m);
    expect(printed).toMatch(/^during the sweep: 1024 blocks are safe, 0 on their way, 0 untouched\nsince/m);
    expect(printed).toMatch(/^ {2}blocks 0 to 99: pending -> stored$/m);
    expect(printed).toMatch(/^ {2}blocks 110 to 999: pending -> stored$/m);
    expect(printed).toMatch(/^ {2}blocks 1000 to 1023: pending -> zero$/m);
  },
  'back-up-a-live-file.ts': (printed) => {
    expect(printed).toMatch(/^committed: 16777216 of 16777216 bytes are safe$/m);
    expect(printed).toMatch(/^Backup [0-9a-f]{32}: the file says "new", the backup says "old"\.$/m);
  },
  'blocks-as-sqlite-rows.ts': (printed) => {
    expect(printed.split('\n')).toEqual([
      'Run 1 has stored 256 of 256 blocks; changes: everything.',
      'Run 2 has stored 4 of 256 blocks; changes: tracked.',
      'Run 1, restored, is equal.',
      'Run 2, restored, is equal.',
      '',
    ]);
  },
  'compose-your-own-pipeline.ts': (printed) => {
    expect(printed.split('\n')).toEqual([
      '3 blocks are safe; block 99 is pending.',
      '256 blocks were stored; the copy is equal.',
      '',
    ]);
  },
  'group-of-volumes.ts': (printed) => {
    const [journal, data] = [
      numbersIn(printed, /database\/journal is at transaction (\d+)/),
      numbersIn(printed, /database\/data is at transaction (\d+)/),
    ].flat() as [number, number];
    expect([journal, journal - 1]).toContain(data);
    expect(journal).toBeGreaterThanOrEqual(100);
    expect(numbersIn(printed, /went on to transaction (\d+)/)[0]).toBeGreaterThanOrEqual(journal);
    expect(new Set(printed.match(/\d{4}-\d\d-\d\dT[\d:.]+Z/g)).size, 'one instant').toBe(1);
  },
  'incremental-backup.ts': (printed) => {
    const [read, uploaded, requests] = numbersIn(
      printed,
      /^what changed: tracked; read (\d+) KiB, uploaded (\d+) KiB in (\d+) requests$/m,
    ) as [number, number, number];
    expect(printed).toMatch(/^what changed: everything; read 16384 KiB, uploaded 16\d{3} KiB in \d+ requests$/m);
    expect(read).toBe(64);
    expect(uploaded).toBeLessThan(80);
    expect(requests).toBeLessThan(10);
    expect(printed).toMatch(/^The backups differ in 65536 bytes from byte 10485760 on\.$/m);
    expect(printed).toMatch(/^The restored copy is equal\.$/m);
  },
  'open-in-place.ts': (printed) => {
    expect(printed.split('\n')).toEqual([
      'music.bin: 4194304 bytes',
      'letter.txt: 46 bytes',
      '  Dear Alice, the backup has opened. Yours, Bob',
      'video.bin: 8388608 bytes',
      '',
    ]);
  },
  'own-device.ts': (printed) => {
    expect(numbersIn(printed, /tests (\d+)/)[0]).toBeGreaterThan(20);
    expect([numbersIn(printed, /fail (\d+)/)[0], numbersIn(printed, /skipped (\d+)/)[0]]).toEqual([0, 5]);
  },
  'own-target.ts': (printed) => {
    expect(numbersIn(printed, /tests (\d+)/)[0]).toBeGreaterThan(30);
    expect([numbersIn(printed, /fail (\d+)/)[0], numbersIn(printed, /skipped (\d+)/)[0]]).toEqual([0, 10]);
  },
  'restore-to-a-file.ts': (printed) => {
    expect(printed).toMatch(/^restoring: 12583424 of 12583424 bytes$/m);
    expect(printed).toMatch(/^Wrote 12583424 bytes from \d+ stored bytes in \d+ requests\.$/m);
    const [original, restored] = [...printed.matchAll(/^SHA-256 of the \w+: ([0-9a-f]{64})$/gm)].map(([, hex]) => hex);
    expect(restored).toBe(original);
  },
  'retention-and-prune.ts': (printed) => {
    const lines = printed.trimEnd().split('\n');
    const frees = lines.map((line) => numbersIn(line, /(\d+) bytes condemned, (\d+) freed$/)) as [number, number][];
    expect(lines.map((line) => numbersIn(line, /(\d+) backups kept, (\d+) forgotten/))).toEqual([
      [1, 0],
      [2, 0],
      [3, 0],
      [3, 1],
      [3, 1],
      [3, 1],
    ]);
    expect(frees.slice(0, 3).flat(), 'nothing is forgotten yet').toEqual([0, 0, 0, 0, 0, 0]);
    expect(frees[3]![0]).toBeGreaterThan(1024 * 1024);
    expect(frees[3]![1], 'the day of grace').toBe(0);
    expect(frees[4]![1]).toBe(frees[3]![0]);
  },
  'roll-back.ts': (printed) => {
    expect(numbersIn(printed, /^Wrote (\d+) of 16777216 bytes, from (\d+) fetched/m)).toEqual([262144, 262144]);
    expect(printed).toMatch(/^The volume is as it was before\.$/m);
    expect(printed).toMatch(/^The next backup: what changed was tracked, 262144 bytes were read\.$/m);
  },
  'send-to-http-endpoint.ts': (printed) => {
    const refused = /^It will be sent again: Error: http:\S+\/blocks\/1\/\d+: 503 Service Unavailable$/gm;
    expect(printed.match(refused)).toHaveLength(5);
    expect(printed).toMatch(/^Sent 64 of 128 blocks; the others are zeroes\.\nThe copy is equal\.$/m);
  },
  'two-stores.ts': (printed) => {
    expect(numbersIn(printed, /has missed (\d+) requests/)[0]).toBeGreaterThan(0);
    const [objects, bytes] = numbersIn(printed, /^Copied (\d+) objects, (\d+) bytes\.$/m) as [number, number];
    expect(objects).toBeGreaterThan(4);
    expect(bytes).toBeGreaterThan(5 * 1024 * 1024);
    expect(printed).toMatch(/^The restored copy is equal\.$/m);
  },
  'two-keys.ts': (printed) => {
    expect(printed).toMatch(/^Read with the passphrase: the content of the disk$/m);
    expect(
      printed
        .match(/^Key slot [0-9a-f]{16} is opened by a \w+\.$/gm)
        ?.map((line) => line.slice(41))
        .toSorted(),
    ).toEqual(['key.', 'passphrase.']);
    expect(printed).toMatch(/^With the stolen key: KEY_REFUSED$/m);
  },
  'verify.ts': (printed) => {
    const verified = printed.match(/^(All is well|THERE IS DAMAGE): .*$/gm) ?? [];
    expect(verified.map((line) => line.replace(/[1-9]\d*/, 'N'))).toEqual([
      'All is well: N bytes verified.',
      'THERE IS DAMAGE: 0 bytes verified, the rest is damaged.',
      'All is well: N bytes verified.',
    ]);
    expect(printed).toMatch(/^ {2}packs\/\S+: RECORD_CORRUPT, needed by the backups [0-9a-f]{32}$/m);
    expect(numbersIn(printed, /stored (\d+) bytes again/)[0]).toBeGreaterThan(8 * 1024 * 1024);
  },
};
const ARGUMENTS: Readonly<Record<string, string[]>> = { 'retention-and-prune.ts': ['0', '6'] };

describe.concurrent('each example', () => {
  test.each(examples.filter((name) => name !== 's3.ts'))('%s does what it says', async (name) => {
    const check = PRINTS[name];
    expect(check, 'what it has to print').toBeDefined();
    check!(await printedBy(name, {}, ARGUMENTS[name]));
  });

  test.skipIf(s3 === null)('s3.ts backs up to a real server and restores, and then once more', async () => {
    const bucket = await freshBucket(s3Client());
    const { endPoint, port, useSSL, accessKey, secretKey } = s3!;
    const env = {
      S3_ENDPOINT: `${useSSL ? 'https' : 'http'}://${endPoint}:${port}`,
      S3_ACCESS_KEY: accessKey,
      S3_SECRET_KEY: secretKey,
      S3_BUCKET: bucket,
    };
    const [first, second] = [await printedBy('s3.ts', env), await printedBy('s3.ts', env)];
    expect(first).toMatch(/^The repository was created\.$/m);
    expect(second).toMatch(/^The repository was there already\.$/m);
    for (const printed of [first, second]) expect(printed).toMatch(/: the copy is equal\.$/m);

    await using target = new S3Target({ client: s3Client(), bucket, prefix: 'examples/s3' });
    const unlock = { passphrase: 'correct horse battery staple' };
    await using repository = await BackupRepository.open(target, { unlock, readOnly: true });
    const ids = (await Array.fromAsync(repository.listBackups({ volume: 'disk' }))).map(({ id }) => id);
    expect(ids).toEqual([second, first].map((printed) => /Backup ([0-9a-f]{32})/.exec(printed)?.[1]));
  });

  test('s3.ts says what is missing in the environment', async () => {
    const none = { S3_ENDPOINT: '', S3_ACCESS_KEY: '', S3_SECRET_KEY: '', S3_BUCKET: '' };
    await expect(printedBy('s3.ts', none)).rejects.toThrow('set S3_ENDPOINT, S3_ACCESS_KEY');
  });
});

describe('an example to copy', () => {
  const sentenceOf = (name: string) => /^\/\/ ([A-Z][^\n]*\.)\n/.exec(textOf(name))?.[1];

  test('there are nine or more, and what is expected of each is stated here', () => {
    expect(examples.length).toBeGreaterThanOrEqual(9);
    expect(Object.keys(PRINTS).concat('s3.ts').toSorted()).toEqual(examples.toSorted());
  });

  test.each(examples)('%s fits on a screen: at most 60 lines of at most 120 characters', (name) => {
    const lines = textOf(name).trimEnd().split('\n');
    expect(lines.length).toBeLessThanOrEqual(60);
    expect(lines.filter((line) => line.length > 120)).toEqual([]);
  });

  test.each(examples)('%s can be copied alone: it imports nothing but Node, minio and this package', (name) => {
    const imported = specifiersIn(textOf(name));
    expect(imported.length).toBeGreaterThan(0);
    expect(imported.filter((each) => !/^(node:.*|minio|cow-cloud-backup(\/(s3|testing))?)$/.test(each))).toEqual([]);
  });

  test('examples/README.md has a line for each, which is the first sentence of the example', () => {
    const readme = readFileSync(join(root, 'examples/README.md'), 'utf8');
    const rows = [...readme.matchAll(/^\| \[([\w.-]+)\]\(([\w.-]+)\) +\| (.*?) +\|$/gm)];
    expect(rows.map(([, name, link, text]) => [name, link, text])).toEqual(
      rows.map(([, name]) => [name, name, sentenceOf(name!)]),
    );
    expect(rows.map(([, name]) => name).toSorted()).toEqual(examples.toSorted());
  });

  test('the folder holds nothing else', () => {
    const rest = readdirSync(join(root, 'examples')).filter((name) => !examples.includes(name));
    expect(rest).toEqual(['README.md']);
  });
});
