// Backs up on a schedule, forgets old backups by a policy, and frees the space that only they needed.
// Usage: node retention-and-prune.ts [SECONDS between backups, 0.1 by default] [NUMBER of backups, 8 by default]
import { randomFillSync } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from 'cow-cloud-backup';

const [seconds = 0.1, runs = 8] = process.argv.slice(2).map(Number);
const DAY_MS = 24 * 60 * 60 * 1000;
let run = 0;

await using device = new MemoryDevice(4 * 1024 * 1024);
await using volume = await CopyOnWriteVolume.open(device);
// Only for this example the store's clock is a day ahead with each run. Ages are measured on it.
await using target = new MemoryTarget({ now: () => Date.now() + run * DAY_MS });
await using repository = await BackupRepository.create(target, { encryption: 'none' });

while (run < runs) {
  run++;
  await volume.write(0, randomFillSync(new Uint8Array(1024 * 1024))); // What the program does all day.
  const { uploadedBytes } = await repository.backup(volume, { volume: 'disk' });

  // A backup that any rule keeps is kept, and always the newest one. Forgetting frees nothing yet.
  const policy = { keepLast: 3, keepDaily: 14, keepMonthly: 12, timeZone: 'Europe/Vienna' };
  const { kept, forgotten } = await repository.applyRetention(policy, { volume: 'disk' });

  // What no backup needs any more is condemned, and deleted by a prune that comes a day later: a restore that is under
  // way on another host can finish. Once a day is often enough.
  const { condemnedBytes, freedBytes } = await repository.prune();
  console.log(
    `run ${run}: ${uploadedBytes} bytes uploaded, ${kept.length} backups kept, ${forgotten.length} forgotten, ` +
      `${condemnedBytes} bytes condemned, ${freedBytes} freed`,
  );
  await setTimeout(seconds * 1000);
}
