import { commitPacks } from '../../../src/repository/backup/backup-session.ts';
import { volumeSuffix } from '../../../src/repository/format/catalogue-pages.ts';
import type { CommittedPack } from '../../../src/repository/format/log-entry.ts';
import type { BlockEntry } from '../../../src/repository/format/map-descriptor.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { decideCommit } from '../../../src/repository/log/entries/commit.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { writeBlockMap } from '../../../src/repository/map/write-block-map.ts';
import { NodeWriter } from '../../../src/repository/packs/node-writer.ts';
import { PackWriter } from '../../../src/repository/packs/pack-writer.ts';
import { sealRecord } from '../../../src/repository/packs/record-sealing.ts';
import { randomBytes } from '../../support/randomness.ts';
import { type Source, text, type Written } from './history.ts';

const BLOCK = 4096;
const BLOCKS = 140;
const VOLUME = 'tabled';

/**
 * A backup in so many tiny packs that its entry lists them in a table. Real packs are too large for that in a golden
 * repository, so it is put together from the pieces that jobs are made of.
 *
 * @param unneeded - how many of the packs hold what the backup does not need
 */
export async function storeWithPackTable({ context, random }: Source, written: Written, unneeded = 0): Promise<void> {
  const { log, keys, target, format } = context;
  const volumes = new Map([[VOLUME, undefined]]);
  const opened = await log.append((state) => decideOpen(state, { owner: context.owner, volumes }));
  const session = opened!.entry.seq;
  const writer = new PackWriter({
    target,
    session,
    footerKey: keys.footerKey,
    createOnly: true,
    packBytes: 150,
    parallelPuts: 1,
  });
  const content = new Uint8Array(BLOCKS * BLOCK);
  const changes: [number, BlockEntry][] = [];
  for (let block = 0; block < BLOCKS; block++) {
    if (block % 3 === 0) continue;
    const raw = text(random, BLOCK);
    content.set(raw, block * BLOCK);
    const id = keys.contentId(raw);
    const { codec, bytes } = sealRecord(keys.recordKey, { kind: RecordKind.block, id }, raw);
    const record = { kind: RecordKind.block, id, codec, rawLength: BLOCK, bytes, hint: block } as const;
    changes.push([block, { id, location: await writer.add(record) }]);
  }
  for (let n = 0; n < unneeded; n++) {
    const raw = text(random, BLOCK);
    const id = keys.contentId(raw);
    const { codec, bytes } = sealRecord(keys.recordKey, { kind: RecordKind.block, id }, raw);
    await writer.add({ kind: RecordKind.block, id, codec, rawLength: BLOCK, bytes, hint: 0 });
  }
  const descriptor = await writeBlockMap({
    size: content.length,
    blockSize: BLOCK,
    fanOut: format.fanOut,
    changes,
    writer: new NodeWriter(keys, writer),
    ids: keys,
  });
  await writer.flush();
  const packs = writer.stored.map((pack): CommittedPack => ({ ...pack, session }));
  const listed = await commitPacks(context, writer, packs);
  if (listed.packTables.length === 0) throw new Error('there should be so many packs that they take a table');
  const id = randomBytes(12).toString('hex') + volumeSuffix(VOLUME);
  const backup = {
    id,
    volume: VOLUME,
    parent: undefined,
    base: undefined,
    frozenAt: context.now(),
    trackingId: 'golden',
    point: 1,
    intact: true,
    descriptor,
    metadata: { packs: 'in a table' },
    stats: { storedBytes: 0, changedBlocks: changes.length },
  };
  const references = writer.stored.map(({ random: name }) => ({ session, random: name }));
  await log.append((state) => decideCommit(state, { session, backups: [backup], references, ...listed }));
  const shape = { id, volume: VOLUME, size: content.length, blockSize: BLOCK, metadata: backup.metadata, lost: [] };
  written.note(shape, content);
}
