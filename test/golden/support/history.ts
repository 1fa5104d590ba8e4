import { createHash } from 'node:crypto';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import type { Unlock } from '../../../src/repository/crypto/unlock.ts';
import type { LogFact, LogFactOf } from '../../../src/repository/format/log-entry.ts';
import { checkpointKey, packKey } from '../../../src/repository/format/object-keys.ts';
import { addKeySlot, removeKeySlot } from '../../../src/repository/open/key-slots.ts';
import type { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type RandomSource, randomBytesFrom } from '../../../src/testing/seeded-random.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import type { GoldenBackup, GoldenDamage } from './manifest.ts';
import { storeWithPackTable } from './tabled-backup.ts';

/** One repository's history: a bit of everything that the format has. */

const BLOCK = 4096;
/** Little work for scrypt: golden repositories hold no secrets. */
const CHEAP = { n: 1024, r: 8, p: 1 };

export interface Source {
  readonly random: RandomSource;
  readonly context: RepositoryContext;
  readonly repository: BackupRepository;
}

/** What a recipe may change: all objects. */
export interface Store extends Source {
  readonly objects: MemoryTarget;
}

/** What became of it all. */
export class Written {
  readonly backups: GoldenBackup[] = [];
  readonly forgotten: string[] = [];
  damage: GoldenDamage | null = null;
  refusesWriters: string | null = null;

  note(backup: Omit<GoldenBackup, 'sha256'>, content: Uint8Array): void {
    const { blockSize, lost } = backup;
    const known = content.slice();
    for (const [first, count] of lost) known.fill(0, first * blockSize, (first + count) * blockSize);
    this.backups.push({ ...backup, sha256: createHash('sha256').update(known).digest('hex') });
  }

  async forget(repository: BackupRepository, ids: readonly string[]): Promise<void> {
    await repository.forget(ids);
    this.forgotten.push(...ids);
    const kept = this.backups.filter(({ id }) => !ids.includes(id));
    this.backups.splice(0, this.backups.length, ...kept);
  }
}

/** A volume in memory whose backups are written down. */
export class Disk {
  readonly device: MemoryDevice;
  readonly volume: CopyOnWriteVolume;
  readonly name: string;
  readonly #source: Source;

  private constructor(source: Source, name: string, device: MemoryDevice, volume: CopyOnWriteVolume) {
    this.#source = source;
    this.name = name;
    this.device = device;
    this.volume = volume;
  }

  static async open(source: Source, name: string, sizeBytes: number, blockSize = BLOCK): Promise<Disk> {
    const device = new MemoryDevice(sizeBytes, { sectorSize: 1 });
    const preserve = { memoryBytes: 0, spillBytes: 0, onFailure: 'lose-block' } as const;
    return new Disk(source, name, device, await CopyOnWriteVolume.open(device, { blockSize, name, preserve }));
  }

  /** Writes to blocks: text that shrinks to little. */
  async write(...blocks: number[]): Promise<void> {
    for (const block of blocks) await this.writeBytes(block, text(this.#source.random, this.volume.blockSize));
  }

  async writeBytes(block: number, bytes: Uint8Array): Promise<void> {
    const offset = block * this.volume.blockSize;
    await this.volume.write(offset, bytes.subarray(0, Math.min(bytes.length, this.device.size - offset)));
  }

  async backUp(written: Written, metadata: Record<string, string> = {}, base?: string): Promise<string> {
    const { id } = await this.#source.repository.backup(this.volume, { volume: this.name, metadata, base });
    this.noteBackup(written, id, metadata);
    return id;
  }

  noteBackup(
    written: Written,
    id: string,
    metadata: Record<string, string> = {},
    lost: readonly (readonly [number, number])[] = [],
    content: Uint8Array = this.device.bytes,
  ): void {
    const { blockSize } = this.volume;
    written.note({ id, volume: this.name, size: this.device.size, blockSize, metadata, lost }, content);
  }
}

/** Slots, cancelled backups and little entries, until a checkpoint is near: its tails are long, but light. */
export async function writePrelude(
  source: Source,
  keys: { passphrase: Unlock; removed: Unlock } | null,
): Promise<void> {
  const { context, repository, random } = source;
  if (keys !== null) {
    await addKeySlot(context, keys.passphrase, {}, { cost: CHEAP });
    await removeKeySlot(context, await addKeySlot(context, keys.removed));
  }
  const disk = await Disk.open(source, 'disk', 8 * BLOCK);
  for (let n = 0; n < 3; n++) await (await repository.startBackup(disk.volume, { volume: 'disk' })).cancel();
  await disk.volume.close();
  for (let n = 0; n < 8; n++) {
    const pack = { session: 1, random: Buffer.from(randomBytesFrom(random, 16)).toString('hex') };
    await context.log.append(() => ({ type: 'config', quarantine: [pack], release: [] }));
    if (n % 2 === 1) await context.log.append(() => ({ type: 'config', quarantine: [], release: [pack] }));
  }

  // Whoever holds this one died: a session without a commit, and a pack that no entry names.
  const dead = await context.log.append(() => ({
    type: 'open',
    owner: 'golden/0/dead',
    volumes: new Map([['abandoned', undefined]]),
    fence: [],
    adopt: [],
  }));
  const orphan = Buffer.from(randomBytesFrom(random, 16)).toString('hex');
  const session = dead!.entry.seq.toString(16).padStart(13, '0');
  await context.target.put(`packs/${session}/${orphan}`, randomBytesFrom(random, 100));
}

/**
 * Hosts that stall, die and come back: fences by a collection and by who took over, times that were dated anew, sessions that are
 * condemned and gone. Each is in the state of a checkpoint later on.
 */
async function writeSessions({ context, random }: Source): Promise<void> {
  const { log, target } = context;
  const append = async (fact: LogFact) => (await log.append(() => fact))!.entry.seq;
  const opening = (owner: string, volume: string, rest: { fence?: number[]; adopt?: number[] } = {}) =>
    append({ type: 'open', owner, volumes: new Map([[volume, undefined]]), fence: [], adopt: [], ...rest });
  const collecting = (rest: Partial<LogFactOf<'collect'>>) =>
    append({ type: 'collect', ...NO_COLLECTION, session: undefined, ...rest });
  const store = async (session: number) => {
    const name = Buffer.from(randomBytesFrom(random, 16)).toString('hex');
    await target.put(packKey({ session, random: name }), randomBytesFrom(random, 100));
    return packKey({ session, random: name });
  };

  const stalled = await opening('golden/0/stalled', 'stalled');
  const ahead = await opening('golden/0/clock%20ahead', 'ahead');
  const forsaken = await opening('golden/0/forsaken', 'forsaken');
  for (const session of [stalled, ahead, forsaken]) await store(session);
  const waiting = await opening('golden/0/waiting', 'waiting');
  await collecting({ redated: [ahead, forsaken, waiting] });
  await collecting({ fence: [stalled, forsaken] });
  await collecting({ redated: [stalled] });
  const taker = await opening('golden/0/taker', 'ahead', { fence: [ahead], adopt: [ahead] });
  await store(taker);
  const gone = await opening('golden/0/gone', 'gone');
  const orphan = await store(gone);
  await append({ type: 'abort', session: gone });
  const condemning = await collecting({ sessions: [forsaken, gone] });
  await target.delete(orphan);
  await collecting({ goneSessions: [gone], redated: [condemning] });
}

const NO_COLLECTION = {
  newPacks: [],
  packs: [],
  sessions: [],
  fence: [],
  relocate: [],
  gonePacks: [],
  goneSessions: [],
  redated: [],
} as const;

/** Backups of all kinds. */
export async function writeBackups(source: Source): Promise<Written> {
  const { random, repository } = source;
  const written = new Written();
  await writeSessions(source);

  // One leaf and a short last block; runs, and then a fold, since runs are a small part of a tree.
  const small = await Disk.open(source, 'disk', 50 * BLOCK + 1000);
  await small.write(...[...Array(51).keys()].filter((block) => block % 5 !== 0));
  await small.writeBytes(6, randomBytesFrom(random, BLOCK)); // Does not shrink.
  await small.backUp(written, { host: 'golden', grüße: '日本語 🐄' });
  for (const blocks of [[1], [50], [2, 3]]) {
    await small.write(...blocks);
    await small.backUp(written, { blocks: blocks.join(' ') });
  }
  await small.writeBytes(7, new Uint8Array(BLOCK)); // Content becomes zeroes.
  await small.backUp(written);

  // Some must not go: one for a reason, one for none, and one that was released again.
  const [heldNoMore, heldOne, heldTwo] = written.backups.map(({ id }) => id).slice(-3) as [string, string, string];
  await repository.hold([heldOne, heldNoMore], { reason: 'until the audit 📋' });
  await repository.hold([heldTwo]);
  await repository.release([heldNoMore]);

  // A block that could not be kept, and a backup that heals it.
  await small.write(12);
  const job = await repository.startBackup(small.volume, { volume: 'disk' });
  const frozen = small.device.bytes.slice();
  await small.write(12);
  const { id } = await job.sweep().done;
  small.noteBackup(written, id, {}, [[12, 1]], frozen);
  await small.write(30);
  await small.backUp(written);

  // Three levels, mostly empty: 128 * 128 blocks and a bit. Runs upon runs, merged runs, a fold of many changes.
  const large = await Disk.open(source, 'large', 16_390 * BLOCK);
  for (let block = 3; block < 16_390; block += 331) await large.write(block);
  await large.backUp(written, { levels: '3' });
  for (let n = 0; n < 8; n++) {
    await large.write(n, 127 + n * 128, 16_389);
    await large.writeBytes(3 + n * 331, new Uint8Array(BLOCK));
    if (n === 4) for (let block = 8000; block < 8050; block++) await large.write(block);
    await large.backUp(written);
  }
  const same = text(random, BLOCK);
  for (let block = 4000; block < 5100; block++) await large.writeBytes(block, same);
  await large.backUp(written, { folded: 'yes' });

  // Other block sizes: a volume smaller than its block, and one of which nothing is stored at all.
  const tiny = await Disk.open(source, 'tiny', 1000, 65_536);
  await tiny.write(0);
  const empty = await Disk.open(source, 'empty', 3_000_000, 16_384);
  const group = await repository.startGroup([
    { source: tiny.volume, volume: 'tiny', metadata: { group: '1' } },
    { source: empty.volume, volume: 'empty', metadata: { group: '1' } },
  ]);
  for (const each of group.jobs) each.sweep();
  const [tinyResult, emptyResult] = await group.done;
  // Of one commit, they are in the order of their keys in the catalogue.
  empty.noteBackup(written, emptyResult!.id, { group: '1' });
  tiny.noteBackup(written, tinyResult!.id, { group: '1' });

  // A volume of which nothing is left, and old backups; then what only they needed goes, and packs are merged.
  const gone = await Disk.open(source, 'gone', 20 * BLOCK);
  await gone.write(...Array(20).keys());
  const lastOfGone = await gone.backUp(written);
  const [first, second, third] = written.backups.filter(({ volume }) => volume === 'disk').map((backup) => backup.id);
  await written.forget(repository, [lastOfGone, first!, second!]);
  const merge = { repackBelow: 1, minRepackGainBytes: 0, packBytes: 65_536 };
  await repository.prune({ graceMs: 0, ...merge });
  await small.write(0, 40);
  await small.backUp(written, { after: 'repacking' });
  await large.write(16_000);
  await large.backUp(written, { after: 'repacking' });
  // Again, so that some packs moved twice; what is condemned now stays for its grace.
  await written.forget(repository, [third!]);
  await repository.prune({ ...merge });
  await storeWithPackTable(source, written);
  // Until a checkpoint has all of it.
  const { log, target } = source.context;
  do {
    await log.append(() => ({ type: 'config', quarantine: [], release: [] }));
  } while ((await target.stat(checkpointKey(log.state.seq))) === undefined);

  for (const disk of [small, large, tiny, empty, gone]) await disk.volume.close();
  return written;
}

/** Less, in a repository of one writer: log keys and packs are what differs. */
export async function writeFew(source: Source): Promise<Written> {
  const written = new Written();
  const disk = await Disk.open(source, 'disk', 20 * BLOCK + 7);
  for (const blocks of [[1, 2, 3, 20], [2], [5, 6]]) {
    await disk.write(...blocks);
    await disk.backUp(written, { blocks: blocks.join(' ') });
  }
  const gone = await Disk.open(source, 'gone', 3 * BLOCK);
  await gone.write(0, 1, 2);
  await written.forget(source.repository, [await gone.backUp(written)]);
  await gone.volume.close();
  await source.repository.prune({ graceMs: 0, repackBelow: 0 });
  for (let n = 0; n < 14; n++) await (await source.repository.startBackup(disk.volume, { volume: 'disk' })).cancel();
  await disk.write(7);
  await disk.backUp(written);
  await disk.volume.close();
  return written;
}

/** As long as is asked for, and compressible: a phrase again and again, with a number. */
export function text(random: RandomSource, length: number): Uint8Array {
  const phrase = Buffer.from(randomBytesFrom(random, 12)).toString('hex');
  return Buffer.from(phrase.repeat(Math.ceil(length / phrase.length)).slice(0, length), 'latin1');
}
