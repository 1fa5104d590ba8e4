import { createHash } from 'node:crypto';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { openRepository } from '../../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../../src/repository/open/repository-options.ts';
import type { CloudTarget, ListOptions, ObjectInfo } from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { Disk, Written, writePrelude } from '../../golden/support/history.ts';
import { storeWithPackTable } from '../../golden/support/tabled-backup.ts';
import { SMALL } from '../../repository/support/repositories.ts';

/** A repository that an attacker may write to: everything that the format has, small. */

export interface Flavour {
  readonly encrypted: boolean;
  readonly singleWriter: boolean;
}

export type Objects = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** Objects by key, and what its backups hold. */
export interface World {
  readonly flavour: Flavour;
  readonly objects: Objects;
  /** As they were some time before. */
  readonly earlier: Objects;
  /** The same history under another key, with other contents. */
  readonly foreign: Objects;
  /** By id: what reading says, as {@link readingOf} has it. */
  readonly readings: ReadonlyMap<string, string>;
  /** By id: bytes of the backup. */
  readonly sizes: ReadonlyMap<string, number>;
}

const BLOCK = 4096;
const KEY = new Uint8Array(32).fill(0x6b);
/** Reads of a large backup: a part of it. */
const READ_BYTES = 2 ** 18;

export function openOptions({ encrypted, singleWriter }: Flavour) {
  return { ...SMALL, ...(encrypted ? { unlock: { key: KEY } } : {}), ...(singleWriter ? { singleWriter } : {}) };
}

export async function makeWorld(flavour: Flavour, seed: number): Promise<World> {
  const { objects, earlier } = await makeObjects(flavour, seed, KEY);
  const { objects: foreign } = await makeObjects(flavour, seed + 1, new Uint8Array(32).fill(0x11));
  const readings = new Map<string, string>();
  const sizes = new Map<string, number>();
  await using target = await filled(objects);
  await using repository = await BackupRepository.open(target, { ...openOptions(flavour), readOnly: true });
  for await (const { id, size } of repository.listBackups()) {
    readings.set(id, await readingOf(repository, id));
    sizes.set(id, size);
  }
  return { flavour, objects, earlier, foreign, readings, sizes };
}

async function makeObjects(flavour: Flavour, seed: number, key: Uint8Array) {
  const { encrypted, singleWriter } = flavour;
  const unlock = encrypted ? { key } : undefined;
  await using target = new MemoryTarget();
  const encryption = unlock ?? 'none';
  await using repository = await BackupRepository.create(target, { encryption, singleWriter, ...SMALL });
  const context = await openRepository(target, { unlock, singleWriter }, checkTuning(SMALL));
  const source = { random: seededRandom(seed), context, repository };
  const passphrases = { passphrase: { passphrase: 'moo' }, removed: { key: new Uint8Array(32).fill(0x72) } };
  // With two handles a repository for a single writer would be forked.
  if (!singleWriter) await writePrelude(source, encrypted ? passphrases : null);
  const written = new Written();
  const disk = await Disk.open(source, 'disk', 50 * BLOCK + 1000);
  await disk.write(...[...Array(51).keys()].filter((block) => block % 5 !== 0));
  const first = await disk.backUp(written, { host: 'hostile' });
  for (const blocks of [[1], [50], [2, 3]]) {
    await disk.write(...blocks);
    await disk.backUp(written);
  }
  const large = await Disk.open(source, 'large', 16_390 * BLOCK);
  for (let block = 3; block < 16_390; block += 331) await large.write(block);
  await large.backUp(written);
  const earlier = await contentsOf(target);
  await large.write(1, 128, 16_389);
  await large.backUp(written);
  await repository.hold([written.backups.at(-1)?.id as string], { reason: 'a court order' });
  await repository.hold([written.backups.at(-2)?.id as string]);
  await repository.release([written.backups.at(-2)?.id as string]);
  const merge = { graceMs: 0, keepFencedMs: 0, repackBelow: 1, minRepackGainBytes: 0, packBytes: 65_536 };
  await written.forget(repository, [first]);
  await repository.prune(merge);
  await disk.write(0, 40);
  await disk.backUp(written);
  await written.forget(repository, [written.backups[0]?.id as string]);
  await repository.prune({ ...merge, graceMs: 1_000_000 });
  if (!singleWriter) await storeWithPackTable(source, written);
  // Up to a checkpoint, and a bit on.
  for (let n = 0; n < 12; n++) {
    await repository.hold([written.backups.at(-1)?.id as string]);
    await repository.release([written.backups.at(-1)?.id as string]);
  }
  await repository.verify({ depth: 'data', fraction: 0.5 });
  await target.put('probe/0123456789abcdef0123456789abcdef', new Uint8Array(16));
  await disk.volume.close();
  await large.volume.close();
  return { objects: await contentsOf(target), earlier };
}

/** A target that holds copies of objects. */
export async function filled(objects: Objects): Promise<MemoryTarget> {
  const target = new MemoryTarget();
  for (const [key, bytes] of objects) await target.put(key, bytes);
  return target;
}

export async function contentsOf(target: CloudTarget): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const objects = new Map<string, Uint8Array<ArrayBuffer>>();
  for await (const { key } of target.list('')) objects.set(key, new Uint8Array(await target.get(key)));
  return objects;
}

/** All of a backup, or its beginning and its end, as text; lost blocks are told by their error. */
export async function readingOf(repository: BackupRepository, id: string): Promise<string> {
  await using image = await repository.openBackup(id);
  const isSmall = image.size <= 2 * READ_BYTES;
  const parts: string[] = [String(image.size)];
  for (const start of isSmall ? [0] : [0, image.size - READ_BYTES]) {
    const bytes = new Uint8Array(isSmall ? image.size : READ_BYTES);
    await image.read(start, bytes);
    parts.push(createHash('sha256').update(bytes).digest('hex'));
  }
  return parts.join(' ');
}

/** The same of a backup that is restored. */
export async function restoredReading(repository: BackupRepository, id: string, size: number): Promise<string> {
  const device = new MemoryDevice(size, { sectorSize: 1 });
  await repository.restore(id, device);
  return readingOfBytes(device.bytes);
}

export function readingOfBytes(bytes: Uint8Array): string {
  const parts =
    bytes.length <= 2 * READ_BYTES ? [bytes] : [bytes.slice(0, READ_BYTES), bytes.slice(bytes.length - READ_BYTES)];
  const digests = parts.map((part) => createHash('sha256').update(part).digest('hex'));
  return [String(bytes.length), ...digests].join(' ');
}

/** Counts requests, and tells what it is told to tell of the sizes of objects. */
export class WatchedTarget extends ForwardingTarget {
  requests = 0;
  readonly lies: ReadonlyMap<string, number>;

  constructor(inner: CloudTarget, lies: ReadonlyMap<string, number>) {
    super(inner, 'this target');
    this.lies = lies;
  }

  protected override around<T>(_: unknown, forward: () => Promise<T>): Promise<T> {
    this.requests++;
    return forward();
  }

  protected override async forwardStat(key: string, options: object): Promise<ObjectInfo | undefined> {
    const info = await super.forwardStat(key, options);
    return info && this.#told(info);
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    this.requests++;
    for await (const info of super.forwardList(prefix, options)) yield this.#told(info);
  }

  #told(info: ObjectInfo): ObjectInfo {
    const size = this.lies.get(info.key);
    if (size === undefined) return info;
    const { sha256: _, ...rest } = info;
    return { ...rest, size };
  }
}
