// Keeps every backup in two places, goes on while one of them is away, and restores from the one that is left.
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRepository, CopyOnWriteVolume, FileTarget, fanOut, MemoryDevice } from 'cow-cloud-backup';

const folder = mkdtempSync(join(tmpdir(), 'two-stores-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
await using device = new MemoryDevice(randomFillSync(new Uint8Array(4 * 1024 * 1024)));
await using volume = await CopyOnWriteVolume.open(device);

// Here two folders: a disk nearby, and one far away. Any two targets will do, also a folder and a bucket.
await using nearby = new FileTarget(join(folder, 'nearby'));
await using faraway = new FileTarget(join(folder, 'faraway'));
let missed = 0;
const onReplicaError = () => missed++;
await using target = fanOut(nearby, [faraway], { quorum: 1, onReplicaError }); // One of the two is enough for now.

await using repository = await BackupRepository.create(target, { encryption: 'none' });
await repository.backup(volume, { volume: 'disk' });

rmSync(join(folder, 'faraway'), { recursive: true }); // The disk far away has broken.
await volume.write(0, randomFillSync(new Uint8Array(1024 * 1024)));
const backup = await repository.backup(volume, { volume: 'disk' });
console.log(`Backup ${backup.id} is stored nearby; the other place has missed ${missed} requests.`);

// A new disk takes its place, and gets everything that the disk nearby has.
await using replacement = new FileTarget(join(folder, 'replacement'));
await using both = fanOut(nearby, [replacement]);
const [copied] = await both.synchronize();
console.log(`Copied ${copied!.copiedObjects} objects, ${copied!.copiedBytes} bytes.`);

rmSync(join(folder, 'nearby'), { recursive: true }); // Now the disk nearby has broken: restore from the new one alone.
await using survivor = await BackupRepository.open(replacement, { readOnly: true });
const copy = new MemoryDevice(backup.size);
await survivor.restore(backup.id, copy);
console.log(`The restored copy is ${Buffer.compare(copy.bytes, device.bytes) === 0 ? 'equal' : 'DIFFERENT'}.`);
