// Backs up a file while the program keeps writing to it: the backup holds the file as it was at one instant.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRepository, CopyOnWriteVolume, FileDevice, FileTarget } from 'cow-cloud-backup';

const folder = mkdtempSync(join(tmpdir(), 'live-file-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, 'disk.img'), Buffer.alloc(16 * 1024 * 1024, 'old '));

// From here on the program writes to `volume`, and no longer to the file itself.
await using device = await FileDevice.open(join(folder, 'disk.img'));
await using volume = await CopyOnWriteVolume.open(device);

await using target = new FileTarget(join(folder, 'backups'));
const encryption = { passphrase: 'correct horse battery staple' };
await using repository = await BackupRepository.open(target, { createIfMissing: { encryption } });

// The backup will hold the file as it is now. Until the sweep, it uploads only what is about to be overwritten.
const job = await repository.startBackup(volume, { volume: 'disk' });
await volume.write(0, Buffer.alloc(4 * 1024 * 1024, 'new '));

job.sweep(); // Uploads the other blocks too. The program can keep writing.
await volume.write(8 * 1024 * 1024, Buffer.alloc(4 * 1024 * 1024, 'new '));

for await (const { phase, doneBytes, totalBytes } of job.watch()) {
  console.log(`${phase}: ${doneBytes} of ${totalBytes} bytes are safe`);
}
const backup = await job.done;

const [inFile, inBackup] = [Buffer.alloc(3), Buffer.alloc(3)];
await volume.read(0, inFile);
await using image = await repository.openBackup(backup.id);
await image.read(0, inBackup);
console.log(`Backup ${backup.id}: the file says "${inFile}", the backup says "${inBackup}".`);
