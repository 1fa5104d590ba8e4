// Verifies that backups can be restored, and reports which ones are damaged: here a disk has flipped one bit.
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRepository, CopyOnWriteVolume, FileTarget, MemoryDevice } from 'cow-cloud-backup';

const folder = mkdtempSync(join(tmpdir(), 'verify-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
await using device = new MemoryDevice(randomFillSync(new Uint8Array(8 * 1024 * 1024)));
await using volume = await CopyOnWriteVolume.open(device);
await using target = new FileTarget(folder);
await using repository = await BackupRepository.create(target, { encryption: 'none' });
const verify = async () => {
  // `data` reads everything back. Every day `{ depth: 'data', fraction: 1 / 30 }` reads all of it within a month.
  const { ok, verifiedBytes, damaged } = await repository.verify({ depth: 'data' });
  const [verdict, rest] = ok ? ['All is well', ''] : ['THERE IS DAMAGE', ', the rest is damaged'];
  console.log(`${verdict}: ${verifiedBytes} bytes verified${rest}.`);
  for (const { pack, backups, error } of damaged) {
    console.log(`  ${pack}: ${error.code}, needed by the backups ${backups.join(', ')}`);
  }
  return damaged;
};

const first = await repository.backup(volume, { volume: 'disk' });
await verify();

for await (const { key } of target.list('packs/')) {
  const bytes = readFileSync(join(folder, key));
  bytes[1000]! ^= 1;
  writeFileSync(join(folder, key), bytes);
}
await verify();

// Verifying has noted the damage in the log. The next backup does not build on it: it stores the content again.
const second = await repository.backup(volume, { volume: 'disk' });
console.log(`Backup ${second.id} stored ${second.uploadedBytes} bytes again.`);
await repository.forget([first.id]);
await repository.prune({ graceMs: 0 });
await verify();
