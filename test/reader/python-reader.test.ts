import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, inject, test, vi } from 'vitest';
import { parseLogKey } from '../../src/repository/format/object-keys.ts';
import { tailLength } from '../../src/repository/log/checkpoint-due.ts';
import type { CloudTarget, ObjectInfo } from '../../src/targets/cloud-target.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { GOLDEN, goldenFolder, type Manifest, readManifest, type Secret } from '../golden/support/manifest.ts';
import { INVERTING } from '../golden/support/secrets.ts';
import { appendAsNewer, NEWER } from '../repository/log/support/newer-program.ts';
import { createIn } from '../repository/support/repositories.ts';
import { contextOf } from '../repository/verify/support/damaging.ts';
import { folderForFile } from '../support/folders.ts';
import { randomForTest, times, withinMs } from '../support/randomness.ts';
import { freshRepository, freshUnlock } from './support/fresh.ts';

vi.mock('../../src/common/clock.ts', () => import('../repository/histories/support/hasty-clock.ts'));

/**
 * A reader in another language, written from `docs/FORMAT.md` by somebody who had not seen the source, reads what this library
 * writes: the same bytes, or it refuses. So the page says enough, and the library does what the page says.
 */

const python = inject('python');
const READER = join(import.meta.dirname, 'cow_reader.py');
const FLIPS = times(40);
const REFUSALS: Record<string, RegExp> = { LOG_FORKED: /^refused: fork/, LOG_CORRUPT: /^refused: damaged/ };
const folder = folderForFile();

type Restored = Record<string, unknown> & { id: string; sha256?: string };

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function reader(args: readonly string[], input = ''): Promise<Ended> {
  // Without `-B` Python would leave a cache beside the program.
  const child = spawn(python as string, ['-B', READER, ...args]);
  const ended = once(child, 'close');
  // A program that does not read it may be over before it is written; what it was to say is looked at, and its status.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { status: status as number | null, stdout, stderr };
}

function linesOf<T>({ status, stdout, stderr }: Ended): T[] {
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T);
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The options that unlock a repository; a provider is asked as a person would: with what the reader says is wrapped. */
async function secretsOf(name: string, { secrets }: Manifest): Promise<string[][]> {
  if (secrets.length === 0) return [[]];
  return Promise.all(secrets.map((secret) => optionOf(name, secret)));
}

async function optionOf(name: string, secret: Secret): Promise<string[]> {
  if ('passphrase' in secret) return ['--passphrase', secret.passphrase];
  if ('key' in secret) return ['--key', secret.key];
  const slots = linesOf<{ provider?: string; wrapped: string }>(await reader(['slots', goldenFolder(name)]));
  const { wrapped } = slots.find(({ provider }) => provider === secret.provider) as { wrapped: string };
  const key = await INVERTING.unwrap(Buffer.from(wrapped, 'hex'), {} as never);
  return ['--unwrapped', Buffer.from(key).toString('hex')];
}

/** Writes the objects of a target as files. */
async function inFolder(target: CloudTarget, leaveOut = /^$/): Promise<string> {
  const to = await mkdtemp(join(folder, 'repository-'));
  for await (const { key } of target.list('')) {
    if (leaveOut.test(key)) continue;
    await mkdir(dirname(join(to, key)), { recursive: true });
    await writeFile(join(to, key), await target.get(key));
  }
  return to;
}

describe.skipIf(python === null).concurrent('the reader in Python', () => {
  describe.each(GOLDEN.map((name) => ({ name, manifest: readManifest(name) })))('of $name', ({ name, manifest }) => {
    if (manifest.damage !== null)
      test('refuses a log that is not sound', async () => {
        for (const secret of await secretsOf(name, manifest)) {
          const { status, stderr } = await reader(['list', goldenFolder(name), ...secret]);
          expect([status, stderr]).toEqual([2, expect.stringMatching(REFUSALS[manifest.damage?.code as string]!)]);
        }
      });

    if (manifest.damage === null)
      test('restores each backup', async () => {
        for (const secret of await secretsOf(name, manifest)) {
          // The contents are the same by either secret, so that they are read once.
          const isLast = secret[0] !== '--passphrase' || manifest.secrets.length === 1;
          const read = linesOf<Restored>(
            await reader([isLast ? 'restore-all' : 'list', goldenFolder(name), ...secret]),
          ).map(({ frozenAt, ...rest }) => rest);
          expect(read).toEqual(manifest.backups.map(({ sha256, ...rest }) => (isLast ? { ...rest, sha256 } : rest)));
        }
      });
  });

  test('refuses lost blocks, forgotten backups and other secrets', async () => {
    const manifest = readManifest('v1-encrypted');
    const { removedKey, backups, forgotten } = manifest;
    const encrypted = goldenFolder('v1-encrypted');
    const secret = (await secretsOf('v1-encrypted', manifest)).find(([kind]) => kind === '--key') as string[];
    const out = join(folder, 'refused.img');
    const lost = backups.find((backup) => backup.lost.length > 0)?.id as string;
    const refused: [string, string[]][] = [
      ['lost', ['restore', encrypted, lost, out, ...secret]],
      ['missing', ['restore', encrypted, forgotten[0] as string, out, ...secret]],
      ['locked', ['list', encrypted, '--key', removedKey as string]],
      ['locked', ['list', encrypted]],
      ['locked', ['list', goldenFolder('v1-plain'), ...secret]],
    ];
    for (const [code, args] of refused) {
      const { status, stdout, stderr } = await reader(args);
      expect([status, stdout]).toEqual([2, '']);
      expect(stderr).toContain(`refused: ${code}`);
    }
  });

  test.each(NEWER)('refuses $what, or need not know it', async (newer) => {
    const target = new MemoryTarget();
    await (await createIn(target)).close();
    const { log, format } = await contextOf(target, false, { readOnly: true });
    const fields = { ...newer.fields, format: format.body };
    await appendAsNewer({ target, logKey: undefined }, log.state, { ...newer, fields });
    const { status, stderr } = await reader(['list', await inFolder(target)]);
    if (newer.stopsReaders) expect([status, stderr]).toEqual([2, expect.stringMatching(/^refused: unsupported/)]);
    else expect([status, stderr]).toEqual([0, '']);
  });

  test('ends without a traceback where its output is closed', async () => {
    const child = spawn(python as string, ['-B', READER, 'list', goldenFolder('v1-plain')]);
    child.stdout.destroy();
    const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect([status, stderr]).toEqual([1, '']);
  });

  test('names the packages that it needs where there are none', async () => {
    // `-S` hides them.
    const child = spawn(python as string, ['-S', '-B', READER, 'list', goldenFolder('v1-plain')]);
    const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect([status, stderr]).toEqual([3, expect.stringMatching(/^No module named .*: install python3-cryptography/)]);
  });

  test('says how it is used', async () => {
    for (const args of [[], ['list', 'a', '--key', '00']]) expect((await reader(args)).status).toBe(3);
  });

  test.each([false, true])('reads the repository of the test vectors, with pages: %s', async (hasPages) => {
    const page = await readFile(join(import.meta.dirname, '../../docs/FORMAT.md'), 'utf8');
    const vector = (name: string) =>
      Buffer.from(new RegExp(`^ {4}${name} += ([0-9a-f]+)$`, 'm').exec(page)?.[1] as string, 'hex');
    const body = vector('format, encrypted');
    const format = Buffer.alloc(1024);
    format.write('cow-cloud-backup');
    format.writeUInt32LE(body.length, 16);
    body.copy(format, 20);
    vector('mac of format').copy(format, 960);
    vector('checksum of format, encrypted').copy(format, 992);
    const objects: [string, Buffer][] = [
      ['format', format],
      ['keys/0123456789abcdef', vector('slot, passphrase')],
      ['log/ffffffffffffe', vector('entry 1')],
      ['log/ffffffffffffd', vector('entry 2')],
      ['log/ffffffffffffd-c', vector(hasPages ? 'checkpoint with pages' : 'checkpoint')],
      ['packs/0000000000001/f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff', vector('pack')],
    ];
    // One page has only its first copy, the other one only its second.
    const pages = ['backups', 'packs'].map((table) => vector(`page of ${table}`));
    for (const [index, page] of hasPages ? pages.entries() : []) {
      objects.push([`catalogue/0000000000002/${sha256(page).slice(0, 32)}${['', '-2'][index]}`, page]);
    }
    // A reader of the entries would need no checkpoint.
    if (hasPages) objects.splice(2, 1);
    const content = new Uint8Array(130 * 4096 + 16);
    for (const block of [0, 6]) content.fill(0x63, block * 4096, (block + 1) * 4096);
    content.set(vector('block a'), 130 * 4096);
    const to = await mkdtemp(join(folder, 'vectors-'));
    for (const [key, bytes] of objects) {
      await mkdir(dirname(join(to, key)), { recursive: true });
      await writeFile(join(to, key), bytes);
    }
    const [backup, ...others] = linesOf<Restored>(await reader(['restore-all', to, '--passphrase', 'cafe\u0301']));
    expect(others).toEqual([]);
    expect(backup).toMatchObject({ id: `${'bb'.repeat(12)}b5f89482`, lost: [[100, 2]], metadata: { note: 'café' } });
    expect(backup?.sha256).toBe(sha256(content));
  });

  describe.each([false, true])('of a fresh repository, encrypted: %s', (isEncrypted) => {
    const secret = isEncrypted ? ['--key', freshUnlock] : [];

    test('gives the same bytes, and with any bit flipped the same or a refusal', {
      timeout: withinMs(60_000),
    }, async () => {
      const fresh = await freshRepository(isEncrypted);
      const repository = await inFolder(fresh.target);
      const restored = linesOf<Restored>(await reader(['restore-all', repository, ...secret]));
      expect(digests(restored)).toEqual(fresh.digests);
      expect(restored.map(({ id, frozenAt }) => [id, frozenAt])).toEqual(fresh.frozenAt);

      const [id, content] = [...fresh.contents].at(-1) as [string, Uint8Array];
      const out = join(folder, `${id}.img`);
      expect((await reader(['restore', repository, id, out, ...secret])).status).toBe(0);
      expect(Buffer.compare(await readFile(out), content)).toBe(0);
      const again = await reader(['restore', repository, id, out, ...secret]);
      expect([again.status, again.stderr]).toEqual([3, expect.stringContaining('is there already')]);

      const kinds = await kindsOf(fresh.target, isEncrypted);
      expect(kinds.map(({ name }) => name).includes('key slot')).toBe(isEncrypted);
      await expectFlips(repository, secret, kinds, fresh.digests);
    });
  });

  test('gives the same or a refusal of a repository in single-writer mode with any bit flipped', {
    timeout: withinMs(60_000),
  }, async () => {
    const name = 'v1-single-writer';
    await using target = new FileTarget(goldenFolder(name));
    const wanted = Object.fromEntries(readManifest(name).backups.map(({ id, sha256 }) => [id, sha256]));
    await expectFlips(goldenFolder(name), [], await kindsOf(target, false), wanted);
  });

  test.each(['v1-pages', 'v1-pages-single-writer', 'v1-tables-and-pages'] as const)(
    'gives the same or a refusal of %s, which has pages, with any bit flipped',
    { timeout: withinMs(60_000) },
    async (name) => {
      const manifest = readManifest(name);
      const [secret] = (await secretsOf(name, manifest)) as [string[]];
      await using target = new FileTarget(goldenFolder(name));
      const wanted = Object.fromEntries(manifest.backups.map(({ id, sha256 }) => [id, sha256]));
      await expectFlips(goldenFolder(name), secret, await kindsOf(target, manifest.secrets.length > 0), wanted);
    },
  );

  test('needs each page of a checkpoint, in one of two copies', { timeout: withinMs(60_000) }, async () => {
    const name = 'v1-pages';
    const manifest = readManifest(name);
    const [secret] = (await secretsOf(name, manifest)) as [string[]];
    await using target = new FileTarget(goldenFolder(name));
    const wanted = Object.fromEntries(manifest.backups.map(({ id, sha256 }) => [id, sha256]));
    const objects = await Array.fromAsync(target.list(''));
    const { below } = randomForTest();
    const flips = objects
      .filter(({ key }) => /^catalogue\/[^-]+$/.test(key))
      .map(({ key, size }) => ({ key, offset: below(size), bit: below(8) }));
    const outcomesWithout = async (leaveOut: RegExp) =>
      flipped(await inFolder(target, leaveOut), secret, flips).then((outcomes) => {
        for (const { backups } of outcomes) if (backups !== undefined) expect(backups).toEqual(wanted);
        return outcomes.filter(({ refused }) => refused !== undefined).length;
      });
    const newest = objects.map(({ key }) => key).find((key) => key.endsWith('-c')) as string;
    /** What is needed no more once there is a checkpoint: entries up to it, and other checkpoints. */
    const older = objects
      .map(({ key }) => key)
      .filter(
        (key) => key.startsWith('log/') && key.slice(0, newest.length - 2) >= newest.slice(0, -2) && key !== newest,
      );
    const olderOrSecond = new RegExp(`^(${older.join('|')})$|^catalogue/.*-2$`);
    // Where a page can't be read, the entries are; and where these are gone, nothing else is.
    expect(await outcomesWithout(/^catalogue\/.*-2$/)).toBe(0);
    expect(await outcomesWithout(new RegExp(`^(${older.join('|')})$`))).toBe(0);
    const named = await outcomesWithout(olderOrSecond);
    expect(named).toBeGreaterThan(5);
    // Pages that only other checkpoints name mean nothing.
    expect(named).toBeLessThan(flips.length);
  });

  test('begins at the floor where that is the only checkpoint, and needs it', async () => {
    const name = 'v1-floor';
    const manifest = readManifest(name);
    const [secret] = (await secretsOf(name, manifest)) as [string[]];
    await using target = new FileTarget(goldenFolder(name));
    const wanted = Object.fromEntries(manifest.backups.map(({ id, sha256 }) => [id, sha256]));
    const objects = await Array.fromAsync(target.list('log/'));
    const [newest, floor] = objects.filter(({ key }) => key.endsWith('-c')) as [ObjectInfo, ObjectInfo];
    const repository = await inFolder(target, new RegExp(`^${newest.key}$`));
    expect(digests(linesOf<Restored>(await reader(['restore-all', repository, ...secret])))).toEqual(wanted);
    const flips = [...Array(8).keys()].map((bit) => ({ key: floor.key, offset: (floor.size >> 3) * bit, bit }));
    for (const { refused } of await flipped(repository, secret, flips)) expect(refused).toMatch(/^damaged: /);
  });

  test('knows the checkpoint of the floor by its digest among those of its number, in single-writer mode', async () => {
    await using target = new FileTarget(goldenFolder('v1-pruned-single-writer'));
    const manifest = readManifest('v1-pruned-single-writer');
    const wanted = Object.fromEntries(manifest.backups.map(({ id, sha256 }) => [id, sha256]));
    const checkpoints = (await Array.fromAsync(target.list('log/'))).filter(({ key }) => /-c-/.test(key));
    const [damaged, newest, , floor] = checkpoints.map(({ key }) => key);
    expect(checkpoints).toHaveLength(4);
    const restored = (repository: string) => reader(['restore-all', repository]);
    const leftOut = (...keys: (string | undefined)[]) => inFolder(target, new RegExp(`^(${keys.join('|')})$`));
    for (const keys of [[], [newest], [damaged, newest]]) {
      expect(digests(linesOf<Restored>(await restored(await leftOut(...keys))))).toEqual(wanted);
    }
    for (const keys of [
      [newest, floor],
      [damaged, newest, floor],
    ]) {
      expect((await restored(await leftOut(...keys))).stderr).toMatch(/^refused: damaged: entry \d+ is missing/);
    }
  });

  test('reads a log without checkpoints, and shows a bit of it that is not as it was', async () => {
    const fresh = await freshRepository(true);
    const repository = await inFolder(fresh.target, /-c$/);
    const entries = (await Array.fromAsync(fresh.target.list('log/'))).filter(({ key }) => !key.endsWith('-c'));
    const flips = entries.map(({ key, size }) => ({ key, offset: size >> 1, bit: 3 }));
    const outcomes = await flipped(repository, ['--key', freshUnlock], flips);
    // Tails repeat most entries, and those are not read: then their bits change nothing.
    const refused = outcomes.filter((outcome) => outcome.refused !== undefined);
    expect(refused.length).toBeGreaterThan(1);
    expect(refused.length).toBeLessThan(outcomes.length);
    for (const { backups } of outcomes) if (backups !== undefined) expect(backups).toEqual(fresh.digests);
  });
});

function digests(restored: readonly Restored[]): Record<string, string | undefined> {
  return Object.fromEntries(restored.map(({ id, sha256 }) => [id, sha256]));
}

interface Place {
  readonly key: string;
  readonly from: number;
  readonly to: number;
}

interface Kind {
  readonly name: string;
  /** What a flipped bit does to the repository as a whole: nobody can read it, nothing, or it depends on the bit. */
  readonly effect: 'refused' | 'none' | 'some';
  readonly places: readonly Place[];
}

/** All objects by their kind, and packs by their parts. */
async function kindsOf(target: CloudTarget, isEncrypted: boolean): Promise<Kind[]> {
  const objects = await Array.fromAsync(target.list(''));
  const whole = (pattern: RegExp) =>
    objects.filter(({ key }) => pattern.test(key)).map(({ key, size }) => ({ key, from: 0, to: size }));
  const entries = whole(/^log\/[0-9a-f]{13}(-[0-9a-f]{32})?$/);
  const checkpoints = whole(/-c(-[0-9a-f]{32})?$/);
  const seqOf = ({ key }: Place) => parseLogKey(key)?.seq as number;
  const newest = Math.max(...entries.map(seqOf));
  const checkpoint = Math.max(0, ...checkpoints.map(seqOf));
  const needed = new Set([newest]);
  for (let seq = newest; seq > checkpoint; seq -= tailLength(seq) + 1) needed.add(seq);
  const pages = whole(/^catalogue\//);
  const records: Place[] = [];
  const footers: Place[] = [];
  const frames: Place[] = [];
  for (const { key, to: size } of whole(/^packs\//)) {
    const bytes = Buffer.from(await target.get(key));
    const footer = size - 12 - bytes.readUInt32LE(size - 12);
    frames.push({ key, from: 0, to: 8 }, { key, from: size - 12, to: size });
    records.push({ key, from: 8, to: footer });
    footers.push({ key, from: footer, to: size - 12 });
  }
  const kinds: Kind[] = [
    { name: 'format', effect: 'refused', places: whole(/^format$/) },
    ...(isEncrypted ? [{ name: 'key slot', effect: 'refused' as const, places: whole(/^keys\//) }] : []),
    // The newest one, and those that no tail of these repeats.
    { name: 'needed entry', effect: 'refused', places: entries.filter((entry) => needed.has(seqOf(entry))) },
    { name: 'other entry', effect: 'none', places: entries.filter((entry) => !needed.has(seqOf(entry))) },
    { name: 'checkpoint', effect: 'none', places: checkpoints },
    // Each has a second copy.
    ...(pages.length > 0 ? [{ name: 'page', effect: 'none' as const, places: pages }] : []),
    { name: 'pack record', effect: 'some', places: records },
    { name: 'pack footer', effect: 'none', places: footers },
    { name: 'head and end of a pack', effect: 'none', places: frames },
  ];
  for (const { name, places } of kinds) expect(places.length, name).toBeGreaterThan(0);
  return kinds;
}

interface Outcome {
  readonly refused?: string;
  /** By id: the SHA-256 of the content, or `refused: ...`. */
  readonly backups?: Readonly<Record<string, string>>;
  /** Of a flip in a pack: what reading it by its footer makes of it. */
  readonly pack?: string;
}

interface Flip {
  readonly key: string;
  readonly offset: number;
  readonly bit: number;
}

/** What a reader makes of a repository with one bit flipped, for each of these. */
async function flipped(repository: string, secret: readonly string[], flips: readonly Flip[]): Promise<Outcome[]> {
  const input = flips.map(({ key, offset, bit }) => `${JSON.stringify({ key, offset, bit })}\n`).join('');
  const outcomes = linesOf<Outcome>(await reader(['flips', repository, ...secret], input));
  expect(outcomes.length).toBe(flips.length);
  return outcomes;
}

/** Flips bits of each kind in one process of the reader: the same bytes or a refusal, always. */
async function expectFlips(
  repository: string,
  secret: readonly string[],
  kinds: readonly Kind[],
  wanted: Readonly<Record<string, string>>,
): Promise<void> {
  const { below } = randomForTest();
  const flips = kinds.flatMap((kind) =>
    Array.from({ length: FLIPS }, () => {
      const { key, from, to } = kind.places[below(kind.places.length)] as Place;
      return { kind, key, offset: from + below(to - from), bit: below(8) };
    }),
  );
  const outcomes = await flipped(repository, secret, flips);
  let refusedRecords = 0;
  for (const [index, { refused, backups, pack }] of outcomes.entries()) {
    const { kind, ...flip } = flips[index] as (typeof flips)[number];
    const where = `${kind.name}: ${JSON.stringify(flip)}`;
    expect(refused !== undefined, `${where}: ${refused}`).toBe(kind.effect === 'refused');
    if (backups === undefined) continue;
    expect(Object.keys(backups), where).toEqual(Object.keys(wanted));
    const wrong = Object.entries(backups).filter(([id, is]) => is !== wanted[id]);
    expect(
      wrong.filter(([, is]) => kind.effect === 'none' || !is.startsWith('refused: ')),
      where,
    ).toEqual([]);
    refusedRecords += wrong.length;
    if (flip.key.startsWith('packs/')) expect(pack, where).toMatch(/^refused: /);
  }
  expect(refusedRecords).toBeGreaterThan(0);
}
