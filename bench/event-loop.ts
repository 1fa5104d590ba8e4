/**
 * The longest step of the event loop of each operation, in milliseconds of CPU time of the calling thread: what a host's own
 * work may have to wait for. The goal is 20 ms for every one of them, whatever the size of the volume and the repository.
 *
 * Arguments: blocks of 4 KiB of the volume that is backed up (2^22: 16 GiB, all of which the first backup reads), and
 * backups of the repository that is listed, pruned and opened. What moves no data is tried with 2^28 blocks (1 TiB).
 */
import { setImmediate } from 'node:timers/promises';
import { BackupRepository, BlockStateMap, CopyOnWriteVolume, MemoryTarget } from '../src/index.ts';
import { adoption } from './support/adoption-steps.ts';
import { codecs } from './support/codec-steps.ts';
import { GOAL_MS, LongestSteps, type Step } from './support/longest-step.ts';
import { pages } from './support/page-steps.ts';
import { pipelines } from './support/pipeline-steps.ts';
import { printTable } from './support/rounds.ts';
import { BLOCK, sparseDevice } from './support/sparse-device.ts';

const BLOCKS = Number(process.argv[2] ?? 2 ** 22);
const BACKUPS = Number(process.argv[3] ?? 1000);
const HUGE = 2 ** 28;
const CHANGED = 20_000;

const one = new Uint8Array(BLOCK).fill(7);
const steps = new LongestSteps();
const step: Step = (name, operation) => steps.step(name, operation);

/** As a host with other work does it: the event loop turns now and then. */
async function walked(ranges: Iterable<unknown>): Promise<void> {
  let count = 0;
  for (const _ of ranges) if (++count % 64 === 0) await setImmediate();
}

async function volumes(): Promise<void> {
  const everything = { firstBlock: 0, blockCount: HUGE };
  const open = () => CopyOnWriteVolume.open(sparseDevice(HUGE, 1), { blockSize: BLOCK, preserve: { spillBytes: 0 } });
  await using volume = await step('volume: open', open);
  const snapshot = await step('volume: createSnapshot', () => volume.createSnapshot());
  await step('volume: 10,000 first overwrites', async () => {
    for (let block = 0; block < 10_000; block++) {
      await volume.write(block * 26_843 * BLOCK, one);
      if (block % 64 === 0) await setImmediate();
    }
  });
  const shared = await step('snapshot: share', () => snapshot.share());
  const cloned = await step('states: clone', () => snapshot.states.clone());
  await step('snapshot: mark all storing', () => snapshot.mark(everything, 'storing'));
  await step('states: diff of all', () => walked(snapshot.states.diff(cloned)));
  await step('snapshot: mark all failed', () => snapshot.mark(everything, 'failed'));
  await step('states: ranges', () => walked(snapshot.states.ranges('lost', 'preserved')));
  const encoded = await step('states: encode', () => snapshot.states.encode());
  await step('states: decode', () => BlockStateMap.decode(encoded));
  await step('snapshot: mark all inherited', () => shared.mark(everything, 'inherited'));
  await step('volume: changedSince', () => walked(volume.changedSince(snapshot.point) ?? []));
  await step('snapshot: close', () => snapshot.close());
  await step('snapshot: close, the last one', () => shared.close());
  await step('volume: discard of all', async () => volume.discard?.(0, HUGE * BLOCK));
  for (let chunk = 0; chunk < HUGE; chunk += 2 ** 14) await volume.write(chunk * BLOCK, one);
  await step('volume: 600 instants, renumbering', async () => {
    for (let instant = 0; instant < 600; instant++) {
      await (await volume.createSnapshot()).close();
      await setImmediate();
    }
  });
  await step('volume: close', () => volume.close());
}

async function backups(): Promise<void> {
  const device = sparseDevice(BLOCKS);
  await using volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  const target = new MemoryTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', threads: 0 });
  const options = { volume: 'volume' };
  const first = await step('backup: the first', () => repository.backup(volume, options));
  for (let block = 0; block < CHANGED; block++) {
    await volume.write(((block * 209) % BLOCKS) * BLOCK, block % 2 === 0 ? one : one.map((byte) => byte + block));
  }
  const second = await step(`backup: ${CHANGED} blocks changed`, () => repository.backup(volume, options));
  await volume.write(0, one);
  const third = await step('backup: one block changed', () => repository.backup(volume, options));
  await step('backup: compared', async () => {
    await using other = await CopyOnWriteVolume.open(sparseDevice(2 ** 16), { blockSize: BLOCK });
    await repository.backup(other, { volume: 'compared' });
    await using again = await CopyOnWriteVolume.open(sparseDevice(2 ** 16), { blockSize: BLOCK });
    await repository.backup(again, { volume: 'compared' });
  });
  await step('image: extents', async () => {
    await using image = await repository.openBackup(third.id);
    for await (const _ of image.extents?.(0, image.size) ?? []);
  });
  await step('diff', async () => {
    for await (const _ of repository.diff(first.id, second.id));
  });
  await step('estimate', () => repository.estimate({ backup: { source: volume, volume: 'volume' } }));
  await step('restore: 4 KiB', () => repository.restore(third.id, device, { ranges: [{ offset: 0, length: BLOCK }] }));
  await step('restore: deviceHolds', () => repository.restore(third.id, device, { deviceHolds: third.id }));
  await step('verify: data', () => repository.verify({ depth: 'data' }));
  await repository.forget([second.id]);
  await step('prune', () => repository.prune({ graceMs: 0 }));
  await repository.close();
}

async function manyBackups(): Promise<void> {
  const target = new MemoryTarget();
  const repository = await BackupRepository.create(target, { encryption: 'none', threads: 0 });
  await using volume = await CopyOnWriteVolume.open(sparseDevice(4096), { blockSize: BLOCK });
  await step(`${BACKUPS} backups, one after the other`, async () => {
    for (let made = 0; made < BACKUPS; made++) {
      await volume.write((made % 4096) * BLOCK, Buffer.alloc(BLOCK, `content ${made}`));
      await repository.backup(volume, { volume: 'volume' });
    }
  });
  await step('open', async () => (await BackupRepository.open(target, { threads: 0 })).close());
  await step('listBackups', () => Array.fromAsync(repository.listBackups()));
  await step('stats', () => repository.stats());
  await step('verify: checksums', () => repository.verify({ depth: 'checksums' }));
  await step('applyRetention, dryRun', () =>
    repository.applyRetention({ keepLast: 10 }, { volume: 'volume', dryRun: true }),
  );
  await step('applyRetention', () => repository.applyRetention({ keepLast: 10 }, { volume: 'volume' }));
  await step('prune, condemning', () => repository.prune());
  await step('prune, deleting', () => repository.prune({ graceMs: 0 }));
  await repository.close();
}

await codecs(step);
await pages(step);
await adoption(step);
await volumes();
await pipelines(step);
if (BLOCKS > 0) await backups();
if (BACKUPS > 0) await manyBackups();
console.log(
  `longest step in milliseconds of CPU time, goal ${GOAL_MS}; volumes of ${HUGE} blocks, backups of ${BLOCKS}\n`,
);
printTable(['', 'longest', 'collecting', ''], steps.rows);
