// Restores the latest backup of a volume to a new file, which gets its name only when it is complete.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRepository, CopyOnWriteVolume, FileDevice, FileTarget } from 'cow-cloud-backup';

const folder = mkdtempSync(join(tmpdir(), 'restore-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
const [original, restored] = [join(folder, 'disk.img'), join(folder, 'restored.img')];
const unlock = { passphrase: 'correct horse battery staple' };
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

{
  // Some time ago, on another machine: there is a backup.
  writeFileSync(original, Buffer.alloc(12 * 1024 * 1024 + 512, 'what must not be lost\n'));
  await using device = await FileDevice.open(original, { readOnly: true });
  await using volume = await CopyOnWriteVolume.open(device);
  await using target = new FileTarget(join(folder, 'backups'));
  await using repository = await BackupRepository.create(target, { encryption: unlock });
  await repository.backup(volume, { volume: 'disk' });
}

// Today: all that a restore needs is the target and the passphrase.
await using target = new FileTarget(join(folder, 'backups'));
await using repository = await BackupRepository.open(target, { unlock, readOnly: true });
const backup = await repository.latestBackup('disk');
if (backup === undefined) throw new Error('there is no backup of this volume');

const { writtenBytes, fetchedBytes, requests } = await repository.restoreToFile(backup.id, restored, {
  onProgress: ({ phase, doneBytes }) => console.log(`${phase}: ${doneBytes} of ${backup.size} bytes`),
});
console.log(`Wrote ${writtenBytes} bytes from ${fetchedBytes} stored bytes in ${requests} requests.`);
console.log(`SHA-256 of the original: ${sha256(original)}`);
console.log(`SHA-256 of the restored: ${sha256(restored)}`);
