import { expect } from 'vitest';
import { commitPacks } from '../../../../src/repository/backup/backup-session.ts';
import { mapOver, type RepositoryContext } from '../../../../src/repository/context/repository-context.ts';
import { makeKeySlot } from '../../../../src/repository/crypto/key-slot.ts';
import { RepositoryKeys } from '../../../../src/repository/crypto/repository-keys.ts';
import { checkUnlock } from '../../../../src/repository/crypto/unlock.ts';
import { volumeSuffix } from '../../../../src/repository/format/catalogue-pages.ts';
import { encodeFormat, formatObject } from '../../../../src/repository/format/format-object.ts';
import type { CommittedPack } from '../../../../src/repository/format/log-entry.ts';
import type { BlockEntry } from '../../../../src/repository/format/map-descriptor.ts';
import { slotKey } from '../../../../src/repository/format/object-keys.ts';
import { RecordKind } from '../../../../src/repository/format/record.ts';
import { decideCommit } from '../../../../src/repository/log/entries/commit.ts';
import { decideOpen } from '../../../../src/repository/log/entries/sessions.ts';
import { LogReader } from '../../../../src/repository/log/log-reader.ts';
import { LogWriter } from '../../../../src/repository/log/log-writer.ts';
import { writeBlockMap } from '../../../../src/repository/map/write-block-map.ts';
import { NodeWriter } from '../../../../src/repository/packs/node-writer.ts';
import { PackWriter } from '../../../../src/repository/packs/pack-writer.ts';
import { sealRecord } from '../../../../src/repository/packs/record-sealing.ts';
import { RecordStore } from '../../../../src/repository/packs/record-store.ts';
import { collectorRecords } from '../../../../src/repository/prune/live-packs.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { randomBytes } from '../../../support/randomness.ts';

/** Backups made of the real pieces, without volumes, jobs and worker threads: every request is one that a test foresees. */

export const BLOCK = 4096;
export const FAN_OUT = 8;

/** What a repository is opened with, by any number of hosts. */
export interface Secrets {
  readonly repositoryId: Uint8Array;
  readonly key: Uint8Array | undefined;
}

export function secrets(isEncrypted: boolean): Secrets {
  return { repositoryId: randomBytes(16), key: isEncrypted ? randomBytes(32) : undefined };
}

export interface HostOptions {
  readonly now?: (() => number) | undefined;
  readonly owner?: string | undefined;
}

/** A host's view of a repository. Never waits between tries. */
export async function openHost(
  target: CloudTarget,
  { repositoryId, key }: Secrets,
  { now = Date.now, owner = 'host' }: HostOptions = {},
): Promise<RepositoryContext> {
  const keys = key === undefined ? RepositoryKeys.plain() : RepositoryKeys.encrypted(key, repositoryId);
  const reader = await LogReader.open({ target, logKey: keys.logKey, mode: 'shared' });
  const log = new LogWriter(reader, { now, sleep: async () => {}, random: () => 0, attempts: 3 });
  const records = new RecordStore({
    target,
    keys,
    fanOut: FAN_OUT,
    state: () => log.state,
    catchUp: (options) => log.catchUp(options),
  });
  const format = encodeFormat({
    version: 1,
    minReader: 1,
    minWriter: 1,
    features: [],
    readerFeatures: [],
    repositoryId,
    encrypted: keys.encrypted,
    fanOut: FAN_OUT,
    mode: 'shared',
    keySlot: undefined,
  });
  return { target, format, keys, keySlot: undefined, log, records, readOnly: false, owner, now };
}

/** As {@link openHost}, of a repository that has all that every repository has: `format`, and a key slot. */
export async function openWhole(
  target: CloudTarget,
  host: Secrets,
  options: HostOptions = {},
): Promise<RepositoryContext> {
  const context = await openHost(target, host, options);
  const { format, keys } = context;
  await target.put('format', formatObject(format, keys.repositoryKey));
  if (keys.repositoryKey !== undefined) {
    const slot = '0123456789abcdef';
    const unlock = checkUnlock({ key: new Uint8Array(32) });
    await target.put(slotKey(slot), await makeKeySlot(keys.repositoryKey, unlock, { format, slot }));
  }
  return context;
}

/** Content of a volume by block; zeroes are `undefined`. */
export type Content = readonly (Uint8Array | undefined)[];

export interface StoreOptions {
  readonly volume?: string;
  readonly packBytes?: number;
  readonly frozenAt?: number;
  /** Instead of the latest. */
  readonly base?: string;
  /** Runs when the session is open, and again when everything is stored. */
  readonly between?: ((step: 'opened' | 'stored') => Promise<unknown>) | undefined;
}

const NEEDS = { needs: 'all' } as const;

export const freshBlock = (): Uint8Array => Uint8Array.from(randomBytes(BLOCK));

/** What backups hold, for comparing. */
export class Backups {
  /** By id. */
  readonly contents = new Map<string, Content>();

  /** Backs a volume up against its latest backup, of which `content` is the next version. */
  async store(context: RepositoryContext, content: Content, options: StoreOptions = {}): Promise<string> {
    const { volume = 'disk', packBytes = 60_000, between } = options;
    const { log, keys } = context;
    const opened = await log.append((state) => {
      const latest = [...state.backups.values()].findLast((backup) => backup.volume === volume);
      const base = options.base === undefined ? latest : state.backups.get(options.base);
      const takeOver = [...state.sessions.keys()]; // What a failed backup left open.
      return decideOpen(state, { owner: context.owner, volumes: new Map([[volume, base?.id]]), takeOver });
    }, NEEDS);
    const session = opened!.entry.seq;
    const baseId = opened!.state.sessions.get(session)!.volumes.get(volume);
    const base = baseId === undefined ? undefined : opened!.state.backups.get(baseId);
    await between?.('opened');
    const writer = new PackWriter({
      target: context.target,
      session,
      footerKey: keys.footerKey,
      createOnly: true,
      packBytes,
      parallelPuts: 1,
    });
    const before = base === undefined ? [] : (this.contents.get(base.id) as Content);
    const changes: [number, BlockEntry | undefined][] = [];
    for (const [block, bytes] of content.entries()) {
      if (base !== undefined && before[block] === bytes) continue;
      if (bytes !== undefined) changes.push([block, await storeBlock(context, writer, block, bytes)]);
      else if (base !== undefined) changes.push([block, undefined]);
    }
    const descriptor = await writeBlockMap({
      previous: base === undefined ? undefined : mapOver(context, collectorRecords(context), base.descriptor),
      size: content.length * BLOCK,
      blockSize: BLOCK,
      fanOut: FAN_OUT,
      changes,
      writer: new NodeWriter(keys, writer),
      ids: keys,
    });
    await writer.flush();
    const packs = writer.stored.map((pack): CommittedPack => ({ ...pack, session }));
    const listed = await commitPacks(context, writer, packs);
    await between?.('stored');
    const id = randomBytes(12).toString('hex') + volumeSuffix(volume);
    const backup = {
      id,
      volume,
      parent: opened!.state.heads.get(volume)?.id,
      base: base?.id,
      frozenAt: options.frozenAt ?? 1_700_000_000_000,
      trackingId: 'tracking',
      point: 1,
      intact: true,
      descriptor,
      metadata: {},
      stats: { storedBytes: 0, changedBlocks: changes.length },
    };
    const references = writer.stored.map(({ random }) => ({ session, random }));
    const plan = { session, backups: [backup], references, ...listed };
    this.contents.set(id, content); // Also where nobody learns whether it was committed.
    await log.append((state) => decideCommit(state, plan), { ...NEEDS, lookFirst: false });
    return id;
  }

  /** Reads every backup that is not forgotten, and compares it byte for byte. */
  async check(context: RepositoryContext): Promise<void> {
    const state = await context.log.catchUp(NEEDS);
    const records = collectorRecords(context);
    for (const [id, backup] of state.backups) {
      const expected = this.contents.get(id) as Content;
      const map = mapOver(context, records, backup.descriptor);
      let compared = 0;
      for await (const { block, entry } of map.entries()) {
        const bytes = await records.read(RecordKind.block, entry.id, entry.location);
        const wanted = expected[block];
        if (wanted === undefined || Buffer.compare(bytes, wanted) !== 0)
          throw new Error(`block ${block} of ${id} differs`);
        compared++;
      }
      expect(compared).toBe(expected.filter((bytes) => bytes !== undefined).length);
    }
  }
}

async function storeBlock(
  { keys }: RepositoryContext,
  writer: PackWriter,
  block: number,
  raw: Uint8Array,
): Promise<BlockEntry> {
  const id = keys.contentId(raw);
  const { codec, bytes } = sealRecord(keys.recordKey, { kind: RecordKind.block, id }, raw);
  const location = await writer.add({ kind: RecordKind.block, id, codec, rawLength: raw.length, bytes, hint: block });
  return { id, location };
}

/** Keys and sizes of the packs of a target. */
export async function packsOf(target: CloudTarget): Promise<Map<string, number>> {
  const packs = new Map<string, number>();
  for await (const { key, size } of target.list('packs/')) packs.set(key, size);
  return packs;
}

export const totalOf = (packs: ReadonlyMap<string, number>): number =>
  [...packs.values()].reduce((sum, size) => sum + size, 0);
