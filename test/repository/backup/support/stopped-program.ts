import { writeSync } from 'node:fs';
import { BackupError } from '../../../../src/common/errors.ts';
import { MemoryDevice } from '../../../../src/device/memory-device.ts';
import { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import { FileTarget } from '../../../../src/targets/file/file-target.ts';
import { CopyOnWriteVolume } from '../../../../src/volume/copy-on-write-volume.ts';

/** The program that `stopped-process.test.ts` stops and continues: one backup after the other, and what each one came to. */

/** Written when this returns, whatever becomes of the process. */
const say = (word: unknown) => void writeSync(1, `${JSON.stringify(word)}\n`);
const volume = await CopyOnWriteVolume.open(new MemoryDevice(5 * 4096), { blockSize: 4096 });
const repository = await BackupRepository.open(new FileTarget(process.argv[2] as string), { threads: 0 });
for (let n = 0; ; n++) {
  await volume.write(0, new Uint8Array(4096).fill(n));
  const job = await repository.startBackup(volume, { volume: 'disk', outageMs: 0 }).catch((error: unknown) => error);
  if (BackupError.is(job)) {
    say({ failed: job.code });
    continue;
  }
  const begun = job as Awaited<ReturnType<typeof repository.startBackup>>;
  const { id } = begun;
  try {
    begun.sweep();
    await begun.done;
    say({ id });
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    say({ id, failed: error.code });
  }
}
