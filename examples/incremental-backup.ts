// Backs up a volume twice: the second backup reads and uploads only what was written after the first.
import { randomFillSync } from 'node:crypto';
import { BackupRepository, type BackupResult, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from 'cow-cloud-backup';

const KIB = 1024;
await using device = new MemoryDevice(randomFillSync(new Uint8Array(16 * KIB * KIB)));
await using volume = await CopyOnWriteVolume.open(device);
await using target = new MemoryTarget();
await using repository = await BackupRepository.create(target, { encryption: 'none' });

const report = ({ changeSource, readBytes, uploadedBytes, requests }: BackupResult) =>
  console.log(
    `what changed: ${changeSource}; read ${readBytes / KIB} KiB, ` +
      `uploaded ${Math.ceil(uploadedBytes / KIB)} KiB in ${requests} requests`,
  );

// There is no backup of this volume yet: everything is read and uploaded.
const first = await repository.backup(volume, { volume: 'disk' });
report(first);

// 100 bytes, somewhere in the second half: one block of 64 KiB.
await volume.write(10 * KIB * KIB, randomFillSync(new Uint8Array(100)));

// The volume knows what was written, so nothing else is read. The base is the volume's latest backup.
const second = await repository.backup(volume, { volume: 'disk' });
report(second);

// Each backup is complete in itself: the first one can be forgotten, and the second one can still be restored.
for await (const { offset, length } of repository.diff(first.id, second.id)) {
  console.log(`The backups differ in ${length} bytes from byte ${offset} on.`);
}
await repository.forget([first.id]);
const copy = new MemoryDevice(second.size);
await repository.restore(second.id, copy);
console.log(`The restored copy is ${Buffer.compare(copy.bytes, device.bytes) === 0 ? 'equal' : 'DIFFERENT'}.`);
