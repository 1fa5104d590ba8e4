// Composes a backup by hand: first instruction, record, compare, upload, ask, second instruction, complete, restore.
import { randomFillSync } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  BackupPipeline,
  CopyOnWriteVolume,
  checksum,
  MemoryDevice,
  PipelineRecord,
  restoreBlocks,
} from 'cow-cloud-backup';

await using device = new MemoryDevice(randomFillSync(new Uint8Array(16 * 1024 * 1024)));
await using volume = await CopyOnWriteVolume.open(device);
const overwrite = (block: number) => volume.write(block * volume.blockSize, randomFillSync(new Uint8Array(150_000)));
const original = Buffer.from(device.bytes);
const stored = new Map<number | 'record', Uint8Array>(); // In place of a target, a database or a server.
const transforms = [checksum()]; // Add `compression()` and `encryption(key)`, or one of your own.
// The first instruction copies nothing. From here on, a block is preserved just before it is overwritten.
await using snapshot = await volume.createSnapshot();
// The pipeline records all states, compares the record with the one before, and uploads what was preserved in between.
await using pipeline = BackupPipeline.start(snapshot, {
  store: (block, bytes) => stored.set(block, bytes),
  transforms,
});
await overwrite(100); // The host writes on, here to three blocks.
// Ask, at any time, how safe a block is, or a range, or the whole.
while (!pipeline.ask({ firstBlock: 100, blockCount: 3 }).isSafe) await delay(10);
console.log(`${pipeline.ask().safeBlocks} blocks are safe; block 99 is ${pipeline.states.get(99)}.`);
// The second instruction uploads the remaining blocks in order. The host still writes on.
pipeline.sweep();
await overwrite(200);
// Complete: every block is safe. The record is stored last: where there is one, all that it names is there too.
const { record, storedBlocks } = await pipeline.done;
stored.set('record', await record.encode());
// Restore, in another process if you like.
const kept = await PipelineRecord.decode(stored.get('record')!);
const copy = new MemoryDevice(kept.size);
await restoreBlocks(kept, copy, { load: (block) => stored.get(block)!, transforms });
console.log(`${storedBlocks} blocks were stored; the copy is ${original.equals(copy.bytes) ? 'equal' : 'DIFFERENT'}.`);
