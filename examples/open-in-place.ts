// Reads one file out of a backed-up tar archive without restoring the archive: a backup opens as a read-only device.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRepository, CopyOnWriteVolume, FileDevice, FileTarget } from 'cow-cloud-backup';

const folder = mkdtempSync(join(tmpdir(), 'open-in-place-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, 'music.bin'), randomBytes(4 * 1024 * 1024));
writeFileSync(join(folder, 'letter.txt'), 'Dear Alice, the backup has opened. Yours, Bob\n');
writeFileSync(join(folder, 'video.bin'), randomBytes(8 * 1024 * 1024));
const names = ['music.bin', 'letter.txt', 'video.bin'];
execFileSync('tar', ['-cf', 'archive.tar', '--format=ustar', ...names], { cwd: folder });

await using device = await FileDevice.open(join(folder, 'archive.tar'), { readOnly: true });
await using volume = await CopyOnWriteVolume.open(device);
await using target = new FileTarget(join(folder, 'backups'));
await using repository = await BackupRepository.create(target, { encryption: 'none' });
const { id, size } = await repository.backup(volume, { volume: 'archive' });

// Nothing is fetched by opening. Each read fetches the blocks that it touches, and a cache keeps them for a while.
await using image = await repository.openBackup(id);
const read = async (offset: number, length: number) => {
  const bytes = Buffer.alloc(length);
  await image.read(offset, bytes);
  return bytes;
};

// A tar archive is a header of 512 bytes for each file, and then its content, filled up to a multiple of 512 bytes.
for (let offset = 0; offset < size; ) {
  const header = await read(offset, 512);
  const name = header.toString('utf8', 0, header.indexOf(0));
  if (name === '') break;
  const length = Number.parseInt(header.toString('ascii', 124, 135), 8);
  console.log(`${name}: ${length} bytes`);
  if (name === 'letter.txt') console.log(`  ${await read(offset + 512, length)}`.trimEnd());
  offset += 512 + Math.ceil(length / 512) * 512;
}
