// Keeps the blocks of each run as rows in SQLite, those of a second run only if they changed, and restores either.
import { randomFillSync } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { BackupPipeline, CopyOnWriteVolume, MemoryDevice, PipelineRecord, restoreBlocks } from 'cow-cloud-backup';

const database = new DatabaseSync(':memory:'); // Name a file instead. A server would use a thread for it.
database.exec('CREATE TABLE blocks (run INTEGER, block INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (block, run))');
database.exec('CREATE TABLE runs (run INTEGER PRIMARY KEY, record BLOB NOT NULL)');
const insert = database.prepare('INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)');
const newest = database.prepare('SELECT bytes FROM blocks WHERE block = ? AND run <= ? ORDER BY run DESC LIMIT 1');

async function recordOf(run: number): Promise<PipelineRecord | undefined> {
  const row = database.prepare('SELECT record FROM runs WHERE run = ?').get(run);
  return row && PipelineRecord.decode(row.record as Uint8Array);
}

async function backUp(run: number): Promise<void> {
  await using snapshot = await volume.createSnapshot();
  const store = (block: number, bytes: Uint8Array<ArrayBuffer>) => insert.run(run, block, bytes);
  await using pipeline = BackupPipeline.start(snapshot, { store, previous: await recordOf(run - 1) });
  const { record, storedBlocks, changeSource } = await pipeline.sweep().done;
  database.prepare('INSERT INTO runs VALUES (?, ?)').run(run, await record.encode()); // Last: now the run is complete.
  console.log(`Run ${run} has stored ${storedBlocks} of ${record.states.blockCount} blocks; changes: ${changeSource}.`);
}

async function restore(run: number): Promise<Uint8Array> {
  const record = (await recordOf(run))!;
  const copy = new MemoryDevice(record.size);
  await restoreBlocks(record, copy, { load: (block) => newest.get(block, run)!.bytes as Uint8Array });
  return copy.bytes;
}

await using device = new MemoryDevice(randomFillSync(new Uint8Array(16 * 1024 * 1024)));
await using volume = await CopyOnWriteVolume.open(device);
const original = Buffer.from(device.bytes);
await backUp(1);
await volume.write(10 * 1024 * 1024, randomFillSync(new Uint8Array(200_000))); // Four blocks of 64 KiB.
await backUp(2);
console.log(`Run 1, restored, is ${original.equals(await restore(1)) ? 'equal' : 'DIFFERENT'}.`);
console.log(`Run 2, restored, is ${Buffer.compare(device.bytes, await restore(2)) === 0 ? 'equal' : 'DIFFERENT'}.`);
