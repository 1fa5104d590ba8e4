/**
 * What a repository stores beside each block, byte by byte: a full backup of random blocks, which don't shrink, into an encrypted
 * repository in memory. All of it is read back from the packs' footers. Decision 140 says what other layouts would save.
 *
 *     node bench/block-overhead.ts [MiB of data] [bytes per block]
 */
import { randomFillSync } from 'node:crypto';
import { MemoryDevice } from '../src/device/memory-device.ts';
import { BackupRepository } from '../src/repository/backup-repository.ts';
import { RecordKind } from '../src/repository/format/record.ts';
import { openRepository } from '../src/repository/open/open-repository.ts';
import { checkTuning } from '../src/repository/open/repository-options.ts';
import { readPackFooter } from '../src/repository/packs/pack-reader.ts';
import { MemoryTarget } from '../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../src/volume/copy-on-write-volume.ts';

const [mebibytes = 64, blockSize = 4096] = process.argv.slice(2).map(Number);
const FOOTER_ROW = 48;
const CONTENT_ID = 32;
const SHORT_LOCATION = 10;

const device = new MemoryDevice(mebibytes * 1024 * 1024);
for (let at = 0; at < device.size; at += 65_536) randomFillSync(device.bytes, at, Math.min(65_536, device.size - at));
const blocks = device.size / blockSize;
const unlock = { key: new Uint8Array(32).fill(1) };
const target = new MemoryTarget();
const repository = await BackupRepository.create(target, { encryption: unlock });
const volume = await CopyOnWriteVolume.open(device, { blockSize });
await repository.backup(volume, { volume: 'disk' });
await volume.close();
await repository.close();

const { keys } = await openRepository(target, { unlock, readOnly: true }, checkTuning({ threads: 0 }));
const stored = { blocks: 0, leaves: 0, nodes: 0, records: 0, packs: 0, log: 0 };
for await (const { key, size } of target.list('packs/')) {
  const [, session, random] = key.split('/') as [string, string, string];
  const { rows } = await readPackFooter(
    target,
    { session: Number.parseInt(session, 16), random },
    size,
    keys.footerKey,
  );
  stored.packs += size;
  for (const { kind, storedLength } of rows) {
    stored.records += storedLength;
    if (kind === RecordKind.block) stored.blocks += storedLength;
    else if (kind === RecordKind.leaf) stored.leaves += storedLength;
    else stored.nodes += storedLength;
  }
}
for await (const { size } of target.list('log/')) stored.log += size;
keys.wipe();

const seal = stored.blocks - device.size;
const parts: [part: string, bytes: number][] = [
  ['nonce and tag of the block', seal],
  ['content id in the leaf', blocks * CONTENT_ID],
  ['short location in the leaf', blocks * SHORT_LOCATION],
  [
    'the rest of leaves: heads, packs, checks, seals, less what compression saves',
    stored.leaves - blocks * (CONTENT_ID + SHORT_LOCATION),
  ],
  ['row of the footer', blocks * FOOTER_ROW],
  ['the rest of packs: other rows, frames, padding', stored.packs - stored.records - blocks * FOOTER_ROW],
  ['nodes above the leaves', stored.nodes],
  ['log entries', stored.log],
];
console.log(`${blocks} blocks of ${blockSize} bytes, each of them different and none that shrinks; bytes a block:`);
for (const [part, bytes] of parts) console.log(`${(bytes / blocks).toFixed(2).padStart(8)}  ${part}`);
const all = stored.packs + stored.log - device.size;
console.log(
  `${(all / blocks).toFixed(2).padStart(8)}  in all: ${((100 * all) / device.size).toFixed(2)} % of the data`,
);
