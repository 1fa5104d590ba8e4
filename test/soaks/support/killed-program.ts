import { createHash } from 'node:crypto';
import { readFileSync, writeSync } from 'node:fs';
import { BackupError } from '../../../src/common/errors.ts';
import { FileDevice } from '../../../src/device/file-device.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { randomBytesFrom, seededRandom } from '../../../src/testing/seeded-random.ts';
import { CopyOnWriteVolume } from '../../../src/volume/copy-on-write-volume.ts';
import { dieAtCall } from './die-at-call.ts';
import type { KilledPlan, Word } from './killed-words.ts';

/** The program that `kills.test.ts` kills: backs a volume up that is being written to, forgets and prunes, and never ends. */

const plan = JSON.parse(process.argv[2] as string) as KilledPlan;
const random = seededRandom(plan.seed);
const below = (limit: number) => Math.floor(random() * limit);
/** Written when this returns, whatever becomes of the process. */
const say = (word: Word) => void writeSync(1, `${JSON.stringify(word)}\n`);

const device = await FileDevice.open(plan.image);
const volume = await CopyOnWriteVolume.open(device, { blockSize: 4096, preserve: { memoryBytes: 16 * 2 ** 20 } });
if (plan.calls !== undefined) await dieAtCall(plan.calls, plan.image);
const { encryption } = plan;
const repository = await BackupRepository.open(new FileTarget(plan.folder), {
  ...(encryption === 'none' ? {} : { unlock: encryption }),
  createIfMissing: { encryption },
  threads: plan.threads,
  packBytes: 64 * 1024,
});
say({ opened: process.pid });

for (;;) {
  const choice = below(10);
  try {
    if (choice < 5) await backUp();
    else if (choice < 7) await forget();
    else await prune();
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    say({ failed: error.code });
  }
}

async function backUp(): Promise<void> {
  // Enough for several packs, so that one who is killed leaves some behind.
  const rewritten = below(4) * (device.size >> 2);
  await volume.write(below(device.size - rewritten), randomBytesFrom(random, rewritten));
  let sha256 = '';
  const atInstant = () => {
    sha256 = createHash('sha256').update(readFileSync(plan.image)).digest('hex');
  };
  await using snapshot = await volume.createSnapshot({ atInstant });
  const job = await repository.startBackup(snapshot, { volume: plan.volume });
  say({ begun: job.id, sha256 });
  job.sweep();
  let isOver = false;
  const done = job.done.finally(() => {
    isOver = true;
  });
  done.catch(() => {});
  while (!isOver) {
    const length = 1 + below(30_000);
    const offset = below(device.size - length);
    await (below(6) === 0
      ? volume.writeZeroes?.(offset, length)
      : volume.write(offset, randomBytesFrom(random, length)));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { adoptedBytes } = await done;
  say({ committed: job.id });
  if (adoptedBytes > 0) say({ adopted: adoptedBytes });
}

async function forget(): Promise<void> {
  const ids: string[] = [];
  for await (const { id } of repository.listBackups({ volume: plan.volume })) if (below(3) > 0) ids.push(id);
  say({ forgetting: ids });
  await repository.forget(ids);
  say({ forgotten: ids });
}

async function prune(): Promise<void> {
  const graceMs = below(2) * 1000;
  await repository.prune({ graceMs, repackBelow: 1, minRepackGainBytes: 0, packBytes: 64 * 1024 * (1 + below(3)) });
  say({ pruned: true });
}
