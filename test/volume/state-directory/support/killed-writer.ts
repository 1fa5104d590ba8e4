import { FileDevice } from '../../../../src/device/file-device.ts';
import { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import { FileTarget } from '../../../../src/targets/file/file-target.ts';
import { seededRandom } from '../../../../src/testing/seeded-random.ts';
import { CopyOnWriteVolume } from '../../../../src/volume/copy-on-write-volume.ts';

/** Backs up a volume, and then writes to it until it is killed. Arguments: a folder, and a seed. */
const [folder, seed] = process.argv.slice(2) as [string, string];
const random = seededRandom(Number(seed));
const below = (limit: number) => Math.floor(random() * limit);

const device = await FileDevice.open(`${folder}/disk.img`);
const volume = await CopyOnWriteVolume.open(device, { blockSize: 4096, stateDirectory: `${folder}/state` });
const repository = await BackupRepository.open(new FileTarget(`${folder}/store`), { threads: 0 });
const { changeSource } = await repository.backup(volume, { volume: 'disk' });
await repository.close();
console.log(changeSource);

async function write(): Promise<void> {
  for (;;) {
    const block = below(volume.size / 4096);
    await volume.write(block * 4096, new Uint8Array(4096).fill(1 + below(255)));
    if (below(40) === 0) await (await volume.createSnapshot()).close();
  }
}

await Promise.all([write(), write(), write(), write()]);
