import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runInSteps } from '../src/common/yield-to-event-loop.ts';
import { ANCHOR_BYTES, anchorNumbers } from '../src/repository/format/anchors.ts';
import { pageKeys, volumeSuffix } from '../src/repository/format/catalogue-pages.ts';
import { encodeCheckpoint } from '../src/repository/format/checkpoint-codec.ts';
import { encodingEntry } from '../src/repository/format/entry-codec.ts';
import type { BackupRecord, CommittedPack, LogEntry } from '../src/repository/format/log-entry.ts';
import {
  EMPTY_STATE,
  floorSeq,
  type Head,
  headOf,
  type KnownPacks,
  type LogState,
  type StoredBackup,
} from '../src/repository/format/log-state.ts';
import {
  CATALOGUE_PREFIX,
  checkpointKey,
  entryKey,
  LOG_PREFIX,
  packKey,
  parseLogKey,
  parsePageKey,
} from '../src/repository/format/object-keys.ts';
import { decideForget } from '../src/repository/log/entries/backups.ts';
import { decideCollect } from '../src/repository/log/entries/collect.ts';
import { decideCommit } from '../src/repository/log/entries/commit.ts';
import { decideOpen } from '../src/repository/log/entries/sessions.ts';
import { FloorFinder } from '../src/repository/log/floor-finder.ts';
import { LogListing } from '../src/repository/log/log-listing.ts';
import { LogReader } from '../src/repository/log/log-reader.ts';
import { floorCheckpoint } from '../src/repository/log/log-source.ts';
import { type Appended, LogWriter } from '../src/repository/log/log-writer.ts';
import { openLog, prefetchLog } from '../src/repository/log/open-log.ts';
import { PAGE_LIMITS } from '../src/repository/log/pages/page-limits.ts';
import { type PageFiles, pageOut } from '../src/repository/log/pages/page-out.ts';
import { PageStore } from '../src/repository/log/pages/page-store.ts';
import type { CloudTarget } from '../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../src/targets/decorators/forwarding-target.ts';
import { FileTarget } from '../src/targets/file/file-target.ts';
import { MemoryTarget } from '../src/targets/memory-target.ts';
import { randomBytesFrom, seededRandom } from '../src/testing/seeded-random.ts';

/*
 * What a log takes: commits of small backups by simulation, with retention and prunes. The log is the real one, in memory; there are
 * no volumes, maps and packs behind it. At the end it is opened from a folder, by another process.
 *
 *     node bench/log-size.ts --commits 10000 --live 500 --volumes 100 --prune-every 24
 *
 * `--begin` says how many live backups there are before the first commit, in pages, as a log has them after its first years.
 */

const { values } = parseArgs({
  options: {
    commits: { type: 'string', default: '2000' },
    live: { type: 'string', default: '200' },
    volumes: { type: 'string', default: '20' },
    begin: { type: 'string', default: '0' },
    'prune-every': { type: 'string', default: '24' },
    open: { type: 'string' },
  },
});
const commits = Number(values.commits);
const live = Number(values.live);
const volumes = Number(values.volumes);
const begun = Number(values.begin);
const pruneEvery = Number(values['prune-every']);

async function openIn(directory: string): Promise<Opening> {
  const opened = new CountedTarget(new FileTarget(directory));
  const opener = { target: opened, logKey: undefined, mode: 'shared' as const };
  const maxMiB = () => process.resourceUsage().maxRSS / 1024;
  const beforeMiB = maxMiB();
  const began = performance.now();
  const listing = await LogListing.read(opener);
  const { state: seen } = await openLog(opener, { listing, prefetched: prefetchLog(opened, listing) });
  const openedMs = performance.now() - began;
  const openMiB = maxMiB() - beforeMiB;
  const openRequests = opened.requests;
  opened.requests = 0;
  const rows = await new PageStore(opener).takeIn(seen, { newest: [{ volume: 'volume 1', count: 50 }] });
  const listedMs = performance.now() - began - openedMs;
  const found = [...rows.backups.values()].filter(({ volume }) => volume === 'volume 1').length;
  return { openedMs, openRequests, openMiB, listedMs, listRequests: opened.requests, found };
}

/** Counts the bytes and objects that are put, and the requests. */
class CountedTarget extends ForwardingTarget {
  putBytes = 0;
  /** Of them, those under `catalogue/`. */
  pageBytes = 0;
  checkpointBytes = 0;
  checkpoints = 0;
  requests = 0;

  constructor(inner: CloudTarget) {
    super(inner, 'this counted target');
  }

  forget(): void {
    this.putBytes = this.pageBytes = this.checkpointBytes = this.checkpoints = this.requests = 0;
  }

  protected override async forwardPut(...args: Parameters<CloudTarget['put']>) {
    const result = await this.inner.put(...args);
    this.requests++;
    this.putBytes += args[1].length;
    if (args[0].startsWith(CATALOGUE_PREFIX)) this.pageBytes += args[1].length;
    if (parseLogKey(args[0])?.kind === 'checkpoint') {
      this.checkpointBytes += args[1].length;
      this.checkpoints++;
    }
    return result;
  }

  protected override forwardGet(...args: Parameters<CloudTarget['get']>) {
    this.requests++;
    return this.inner.get(...args);
  }

  protected override forwardList(...args: Parameters<CloudTarget['list']>) {
    this.requests++;
    return this.inner.list(...args);
  }
}

if (values.open !== undefined) {
  console.log(JSON.stringify(await openIn(values.open)));
  process.exit();
}

const random = seededRandom(1);
const hex = (bytes: number) => Buffer.from(randomBytesFrom(random, bytes)).toString('hex');
const store = new MemoryTarget();
const target = new CountedTarget(store);
const source = { target, logKey: undefined, mode: 'shared' as const };
const packs = new Map<string, CommittedPack>();
let ownBytes = 0;
if (begun > 0) await begin(2 * begun);
const writer = new LogWriter(await LogReader.open(source));
const firstSeq = writer.state.seq;

async function count(appended: Appended | undefined): Promise<Appended> {
  if (appended === undefined) throw new Error('nothing was appended');
  const { entry } = appended;
  const { bytes } = await runInSteps(encodingEntry(undefined, entry as LogEntry, []));
  ownBytes += bytes.length;
  return appended;
}

function backupOf(pack: CommittedPack, volume: string, state: LogState): BackupRecord {
  const location = { pack, offset: 8, storedLength: 1000, codec: 1 as const, rawLength: 4000 };
  const root = { level: 1, id: randomBytesFrom(random, 32), location };
  const run = { id: randomBytesFrom(random, 32), location, firstBlock: 5, lastBlock: 90, entries: 60 };
  return {
    ...{ id: hex(12) + volumeSuffix(volume), volume, parent: headOf(state, volume)?.id, base: undefined },
    ...{ frozenAt: 1.7e12, trackingId: hex(16) },
    ...{ point: 7, intact: true, metadata: {}, stats: { storedBytes: 12_345, changedBlocks: 61 } },
    descriptor: { size: 2 ** 30, blockSize: 65_536, root, runs: [[run]], lost: [] },
  };
}

/** Puts a checkpoint of so many backups, and the entry that it is of. */
async function begin(seq: number): Promise<void> {
  const prev = new Uint8Array(32);
  const entry: LogEntry = { seq, prev, commitId: hex(16), at: 1.7e12, type: 'keys', added: [], removed: [] };
  const { bytes } = await runInSteps(encodingEntry(undefined, entry, []));
  await store.put(entryKey(seq), bytes);
  const backups = new Map<string, StoredBackup>();
  const heads = new Map<string, Head>();
  const known = new Map<number, KnownPacks>();
  for (let n = 0; n < begun; n++) {
    const session = 2 * n + 1;
    const pack = { session, random: hex(16), size: 20_000, sha256: randomBytesFrom(random, 32) };
    const backup = backupOf(pack, `volume ${n % volumes}`, { ...EMPTY_STATE, heads });
    packs.set(packKey(pack), pack);
    backups.set(backup.id, { ...backup, seq: session + 1, committedAt: 1.7e12, session });
    heads.set(backup.volume, { id: backup.id, seq: session + 1 });
    known.set(session, { packs: new Map([[pack.random, pack]]), tables: [], dead: new Set() });
  }
  const hash = createHash('sha256').update(bytes).digest();
  const anchors = anchorNumbers(seq).map((number) => ({
    seq: number,
    hash: (number === seq ? hash : prev).subarray(0, ANCHOR_BYTES),
  }));
  const state = { ...EMPTY_STATE, seq, hash, anchors, backups, heads, known };
  const pages = new PageStore(source);
  const files: PageFiles = {
    rows: (table, ref) => pages.rows(table, ref),
    put: (ref, page) => pages.put(ref, page, true, {}),
  };
  const paged = await pageOut(state, files, { logKey: undefined, everything: false, limits: PAGE_LIMITS });
  await store.put(checkpointKey(seq), (await encodeCheckpoint(undefined, paged)) as Uint8Array<ArrayBuffer>);
  target.forget();
}

async function backUp(volume: string): Promise<void> {
  const plan = { owner: 'host', volumes: new Map([[volume, undefined]]) };
  const quick = { lookFirst: false, confirm: false };
  const { entry } = await count(await writer.append((state) => decideOpen(state, plan), quick));
  const pack = { session: entry.seq, random: hex(16), size: 20_000, sha256: randomBytesFrom(random, 32) };
  packs.set(packKey(pack), pack);
  const newest = { newest: [{ volume, count: 1 }] };
  const backup = backupOf(pack, volume, await writer.withPages(newest));
  const commit = { session: entry.seq, backups: [backup], packs: [pack], references: [pack] };
  await count(await writer.append((state) => decideCommit(state, commit), { needs: newest, lookFirst: false }));
}

/** What the log and the catalogue take, times the whole state, at most: before some of the prunes. */
let most = 0;

async function measure(): Promise<void> {
  const taken = (await sizeOf(LOG_PREFIX)).bytes + (await sizeOf(CATALOGUE_PREFIX)).bytes;
  most = Math.max(most, taken / (await wholeBytes()));
}

async function wholeBytes(): Promise<number> {
  const whole = await writer.withPages('all');
  return (await encodeCheckpoint(undefined, { ...EMPTY_STATE, ...whole, seq: whole.seq }))?.length ?? Number.NaN;
}

async function prune(): Promise<void> {
  const { backups } = await writer.withPages('all');
  const old = [...backups.keys()].slice(0, Math.max(0, backups.size - live));
  if (old.length > 0)
    await count(await writer.append((state) => runInSteps(decideForget(state, old)), { needs: { ids: old } }));
  const before = await writer.catchUp({ needs: 'all' });
  const needed = new Set(
    [...before.backups.values()].flatMap(({ descriptor: { root } }) => (root ? [packKey(root.location.pack)] : [])),
  );
  const floor = await new FloorFinder(writer).find(before, {});
  const plan = { markedAt: before.seq, live: needed, listed: packs.values(), floor };
  const decision = await runInSteps(decideCollect(before, plan));
  const appended = decision && (await writer.append(() => decision));
  if (appended) await count(appended);
  for (const key of writer.state.condemned.keys()) packs.delete(key);
  const now = floorSeq(writer.state);
  for await (const { key } of store.list(LOG_PREFIX)) {
    const parsed = parseLogKey(key);
    if (parsed !== undefined && (parsed.seq < now || (parsed.seq === now && parsed.kind === 'entry')))
      await store.delete(key);
  }
  const { floor: set } = writer.state;
  const named = set && (await floorCheckpoint(source, set, {}))?.pages;
  if (named === undefined) return;
  const kept = pageKeys(named);
  for await (const { key } of store.list(CATALOGUE_PREFIX)) {
    const page = parsePageKey(key);
    if (page !== undefined && page.seq < now && !kept.has(page.page)) await store.delete(key);
  }
}

for (let n = 1; n <= commits; n++) {
  await backUp(`volume ${n % volumes}`);
  if (n % pruneEvery !== 0) continue;
  if (n > commits * 0.9) await measure();
  await prune();
}

async function sizeOf(prefix: string): Promise<{ objects: number; bytes: number }> {
  let [objects, bytes] = [0, 0];
  for await (const { size } of store.list(prefix)) {
    objects++;
    bytes += size;
  }
  return { objects, bytes };
}

await writer.settled();
const log = await sizeOf(LOG_PREFIX);
const catalogue = await sizeOf(CATALOGUE_PREFIX);
const whole = await writer.withPages('all');
const rows = await wholeBytes();
const state = (await encodeCheckpoint(undefined, writer.state))?.length ?? Number.NaN;

/** Opens a log as a repository does, in a process of its own, and lists the newest backups of a volume. */
interface Opening {
  readonly openedMs: number;
  readonly openRequests: number;
  readonly openMiB: number;
  readonly listedMs: number;
  readonly listRequests: number;
  readonly found: number;
}

const folder = await mkdtemp(join(tmpdir(), 'log-size-'));
const files = new FileTarget(folder);
for (const prefix of [LOG_PREFIX, CATALOGUE_PREFIX]) {
  for await (const { key } of store.list(prefix)) await files.put(key, await store.get(key));
}
const child = spawnSync(process.execPath, [...process.execArgv, process.argv[1] as string, '--open', folder]);
if (child.status !== 0) throw new Error(child.stderr.toString());
const opening = JSON.parse(child.stdout.toString()) as Opening;
await rm(folder, { recursive: true });
const perCommit = (number: number) => `${Math.round(number / commits)} bytes`;
console.table({
  'backups that are live': whole.backups.size,
  'entries written': writer.state.seq - firstSeq,
  'objects under log/': log.objects,
  'objects under catalogue/': catalogue.objects,
  'bytes under log/': log.bytes,
  'bytes under catalogue/': catalogue.bytes,
  'bytes of the newest checkpoint': state,
  'bytes of the whole state, compressed': rows,
  'log and catalogue, times the whole state': ((log.bytes + catalogue.bytes) / rows).toFixed(2),
  'the same before a prune, at most': most.toFixed(2),
  'own bytes of entries, per commit': perCommit(ownBytes),
  'bytes of tails, per commit': perCommit(target.putBytes - target.pageBytes - target.checkpointBytes - ownBytes),
  'bytes of checkpoints, per commit': perCommit(target.checkpointBytes),
  'other bytes of entries and checkpoints, per commit': perCommit(target.putBytes - target.pageBytes - ownBytes),
  'entries for each checkpoint': ((writer.state.seq - firstSeq) / target.checkpoints).toFixed(1),
  'bytes of pages, per commit': perCommit(target.pageBytes),
  'requests to open the log': opening.openRequests,
  'ms to open the log': Math.round(opening.openedMs),
  'MiB of memory that this takes': Math.round(opening.openMiB),
  'more requests to list the newest 50 of a volume': opening.listRequests,
  'ms for that': Math.round(opening.listedMs),
  'backups of that volume that are found': opening.found,
});
