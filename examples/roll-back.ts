// Undoes a mistake on a live volume: it is rolled back to a backup, and only what differs is written.
import { randomFillSync } from 'node:crypto';
import { BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from 'cow-cloud-backup';

await using device = new MemoryDevice(randomFillSync(new Uint8Array(16 * 1024 * 1024)));
await using volume = await CopyOnWriteVolume.open(device);
await using target = new MemoryTarget();
await using repository = await BackupRepository.create(target, { encryption: 'none' });
const before = device.bytes.slice();
const backup = await repository.backup(volume, { volume: 'disk' });

// The mistake.
await volume.write(3 * 1024 * 1024, Buffer.alloc(200_000, 'oops '));

// The mistake itself may be worth a look later. Its backup costs only what it has changed.
const mistake = await repository.backup(volume, { volume: 'disk', metadata: { reason: 'before the rollback' } });

// The volume holds what the backup of the mistake holds, so nothing else has to be read, fetched or written.
const { writtenBytes, fetchedBytes } = await repository.restore(backup.id, volume, { deviceHolds: mistake.id });
console.log(`Wrote ${writtenBytes} of ${volume.size} bytes, from ${fetchedBytes} fetched ones.`);
console.log(`The volume is ${Buffer.compare(before, device.bytes) === 0 ? 'as it was before' : 'DIFFERENT'}.`);

// The rollback went through the volume, so the next backup is incremental as well.
const { changeSource, readBytes } = await repository.backup(volume, { volume: 'disk' });
console.log(`The next backup: what changed was ${changeSource}, ${readBytes} bytes were read.`);
