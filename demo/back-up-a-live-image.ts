/**
 * What a host does with a repository over time: a first backup in two instructions while writes go on, an
 * incremental one, restores, forgetting and pruning, a backup opened in place by another host, and verifying. What is
 * under `support/` is only the stage: a disk, a writer that keeps writing to it, a screen, and a comparison.
 */
import { BackupRepository, CopyOnWriteVolume, FileDevice } from 'cow-cloud-backup';
import { bytes, count } from './support/figures.ts';
import { onStage, type Stage } from './support/stage.ts';

const encryption = { passphrase: 'correct horse battery staple' };
const BLOCKS_READ = 64;

async function play(stage: Stage): Promise<void> {
  const { target, signal } = stage;

  // The host's disk. From here on the host writes to the volume, and it does not stop for anything that follows.
  await using device = await FileDevice.open(stage.imagePath);
  await using volume = await CopyOnWriteVolume.open(device, { preserve: { spillPath: stage.path('pre-images') } });
  await using _writer = await stage.startWriting(volume);

  // A repository is created once. Later it is opened: `open(target, { unlock: encryption })`.
  await using repository = await stage.step('create the repository', () =>
    BackupRepository.create(target, { encryption, signal }),
  );

  // The first instruction copies nothing: from now on a block is preserved just before it is overwritten, and uploaded.
  // `startBackup` takes a volume, too. A snapshot is for hosts that have something to do at the very instant; the job shares it.
  const freeze = async (instant: string) => {
    await using snapshot = await volume.createSnapshot({ atInstant: stage.copyAtInstant(instant), signal });
    return await repository.startBackup(snapshot, { volume: 'disk', metadata: { instant }, signal });
  };
  const first = await stage.step(
    'first backup',
    async () => {
      const job = await freeze('first');
      stage.show(job);
      await stage.betweenInstructions(job);
      // Ask at any time what is safe already and where each block is; `job.watch()` reports it as it changes.
      stage.showWhere(job);
      // The second instruction stores what is left, in order. Interception goes on, and every block is stored once.
      job.sweep();
      return job.done;
    },
    ({ readBytes }) => ({ readBytes }),
  );

  // The next backup takes the last one as its base and uploads what was written since; the volume knows what that is.
  await stage.letWritesGoOn();
  const second = await stage.step(
    'incremental backup',
    async () => {
      const job = await freeze('second');
      stage.show(job.sweep());
      return job.done;
    },
    ({ readBytes, changeSource }) => ({
      readBytes,
      remark: `what changed was ${changeSource}; all else is the base's`,
    }),
  );

  // Restoring: the first backup onto a new file, then the second onto that file, for which only what differs is fetched.
  {
    const path = stage.path('restored.img');
    await using copy = await FileDevice.open(path, { create: { sizeBytes: first.size } });
    await stage.step('restore the first', (onProgress) =>
      repository.restore(first.id, copy, { deviceHolds: 'zeroes', onProgress, signal }),
    );
    await stage.compare(path, 'first');
    await stage.step(
      'the second onto it',
      (onProgress) => repository.restore(second.id, copy, { deviceHolds: first.id, onProgress, signal }),
      ({ writtenBytes }) => ({ remark: `${bytes(writtenBytes)} of ${bytes(second.size)} were written` }),
    );
    await stage.compare(path, 'second');
    await stage.clearAway(path);
  }

  // `backup` does all of it in one call: both instructions at once, and it waits until the backup is complete.
  await stage.letWritesGoOn();
  const third = await stage.step(
    'incremental again',
    async (onProgress) => {
      await using snapshot = await volume.createSnapshot({ atInstant: stage.copyAtInstant('third'), signal });
      return await repository.backup(snapshot, { volume: 'disk', metadata: { instant: 'third' }, onProgress, signal });
    },
    ({ readBytes }) => ({ readBytes }),
  );

  // A policy says what is forgotten over the years, such as `{ keepLast: 3, keepDaily: 14 }`, and pruning frees what only that
  // needed. By default it gives readers a day, and does not repack for a few MiB.
  await stage.step(
    'forget and prune',
    async (onProgress) => {
      await repository.applyRetention({ keepLast: 1 }, { volume: 'disk', signal });
      return repository.prune({ graceMs: 0, minRepackGainBytes: 0, onProgress, signal });
    },
    ({ freedBytes, deletedObjects }) => ({ remark: `${bytes(freedBytes)} in ${count(deletedObjects)} objects freed` }),
  );

  // Any other host needs nothing but the target and the passphrase. A backup opened in place is a read-only device.
  await using elsewhere = await stage.step('open elsewhere', () =>
    BackupRepository.open(target, { unlock: encryption, readOnly: true, signal }),
  );
  const [latest] = await Array.fromAsync(elsewhere.listBackups({ volume: 'disk', limit: 1, signal }));
  if (latest?.id !== third.id) throw new Error('the backup that was kept is not the latest one');
  await using image = await stage.step('first byte', async () => {
    const image = await elsewhere.openBackup(latest.id, { signal });
    await image.read(0, new Uint8Array(1), { signal });
    return image;
  });
  await stage.step(
    `${BLOCKS_READ} blocks here and there`,
    async () => {
      const reads = Array.from({ length: BLOCKS_READ }, async (_, index) => {
        const piece = new Uint8Array(Math.min(latest.blockSize, image.size));
        const offset = Math.floor((index / BLOCKS_READ) * (image.size - piece.length));
        await image.read(offset, piece, { signal });
        await stage.compareAt(offset, piece, 'third');
      });
      await Promise.all(reads);
    },
    () => ({ remark: 'each is what it was at the third instant' }),
  );

  // Disaster recovery restores all of it, from what pruning has left.
  {
    const path = stage.path('recovered.img');
    await using copy = await FileDevice.open(path, { create: { sizeBytes: latest.size } });
    await stage.step('restore the third', (onProgress) =>
      elsewhere.restore(latest.id, copy, { deviceHolds: 'zeroes', onProgress, signal }),
    );
    await stage.compare(path, 'third');
  }

  // A host would verify a part at a time (`fraction`), the least recently verified first.
  await stage.step(
    'verify all data',
    async (onProgress) => {
      const { ok, damaged, verifiedBytes } = await repository.verify({ depth: 'data', onProgress, signal });
      if (!ok) throw new Error(`${damaged.length} packs are damaged`, { cause: damaged[0]?.error });
      return verifiedBytes;
    },
    (verifiedBytes) => ({ remark: `${bytes(verifiedBytes)} read back, opened and found right` }),
  );
}

await onStage(process.argv.slice(2), play);
