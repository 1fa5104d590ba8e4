import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'vitest';
import { BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from '../../../src/index.ts';
import { folderForFile } from '../../support/folders.ts';
import { errorOf, expectSame, numberBlocks } from '../../volume/support/bytes.ts';

const folder = folderForFile();

/** A program that does its tasks well, up to the one that it dies over. */
async function dyingProgram(tasks: number): Promise<URL> {
  const path = join(folder, `dies-at-${tasks}.mjs`);
  const service = pathToFileURL(join(import.meta.dirname, '../../../src/repository/packs/seal-pool/seal-service.ts'));
  await writeFile(
    path,
    `import { parentPort, workerData } from 'node:worker_threads';
    import { serveSealRequests } from '${service}';
    let tasks = 0;
    parentPort.on('message', () => { if (++tasks === ${tasks}) process.exit(1); });
    serveSealRequests(parentPort, workerData);`,
  );
  return pathToFileURL(path);
}

async function backUp(workerUrl: URL) {
  const device = new MemoryDevice(6 * 1024 * 1024);
  numberBlocks(device.bytes);
  await using volume = await CopyOnWriteVolume.open(device, { blockSize: 4096 });
  await using repository = await BackupRepository.create(new MemoryTarget(), {
    encryption: { key: new Uint8Array(32).fill(7) },
    threads: 1,
    workerUrl,
  });
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const copy = new MemoryDevice(device.size);
  await repository.restore(id, copy);
  expectSame(copy.bytes, device.bytes);
}

test('a backup outlives threads that die now and then', async () => {
  await backUp(await dyingProgram(5));
});

test('a backup over whose blocks every thread dies fails', async () => {
  await errorOf(backUp(await dyingProgram(1)), 'WORKER_FAILED');
});
