// Backs up two volumes at the same instant, in one commit: a journal and the data that it protects stay consistent.
import { setImmediate } from 'node:timers/promises';
import { BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from 'cow-cloud-backup';

await using journal = await CopyOnWriteVolume.open(new MemoryDevice(16 * 1024 * 1024), { closeDevice: true });
await using data = await CopyOnWriteVolume.open(new MemoryDevice(64 * 1024 * 1024), { closeDevice: true });
await using target = new MemoryTarget();
await using repository = await BackupRepository.create(target, { encryption: 'none' });

// A database that never pauses: it writes each transaction to the journal first, and then to the data.
let transactions = 0;
let isStopping = false;
const database = (async () => {
  while (!isStopping) {
    const record = Buffer.alloc(4096);
    record.writeUInt32LE(++transactions);
    await journal.write(0, record);
    await data.write(0, record);
    await setImmediate();
  }
})();
while (transactions < 100) await setImmediate();

const group = await repository.startGroup([
  { source: journal, volume: 'database/journal' },
  { source: data, volume: 'database/data' },
]);
for (const job of group.jobs) job.sweep();
const backups = await group.done; // All of them are committed, or none.
isStopping = true;
await database;

// At any instant the data is at the journal's transaction, or at the one before it.
for (const { id, volume, frozenAt } of backups) {
  const record = Buffer.alloc(4096);
  await using image = await repository.openBackup(id);
  await image.read(0, record);
  console.log(`${volume} is at transaction ${record.readUInt32LE()}, as it was at ${frozenAt.toISOString()}`);
}
console.log(`Meanwhile the database went on to transaction ${transactions}.`);
