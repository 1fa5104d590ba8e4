// Asks, while a backup is under way, which blocks are safe: as counts, for single blocks, and as ranges of blocks.
import { randomFillSync } from 'node:crypto';
import { BackupRepository, type BlockStates, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from 'cow-cloud-backup';

const BLOCK = 64 * 1024;
await using device = new MemoryDevice(1024 * BLOCK);
await using volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
await volume.write(0, randomFillSync(new Uint8Array(1000 * BLOCK))); // The other 24 blocks are zeroes.
await using target = new MemoryTarget();
await using repository = await BackupRepository.create(target, { encryption: 'none' });

function report(when: string, { counts }: BlockStates): void {
  const { pending, preserved, storing, stored, zero } = counts;
  console.log(`${when}: ${stored + zero} blocks are safe, ${preserved + storing} on their way, ${pending} untouched`);
}

const job = await repository.startBackup(volume, { volume: 'disk' });
report('at the instant', job.states);

// What is overwritten is preserved first: from then on the backup does not need the device for these blocks.
await volume.write(100 * BLOCK, new Uint8Array(10 * BLOCK));
report('after overwriting ten blocks', job.states);
for (const block of [99, 100]) console.log(`  block ${block} is ${job.states.get(block)}`);

// A copy of the states keeps them as they are now; `diff` says later what has changed since.
const earlier = job.states.clone();
job.sweep();
for await (const _ of job.watch({ intervalMs: 10 })) report('during the sweep', job.states);
await job.done;

console.log('since the sweep began:');
for (const { firstBlock, blockCount, from, to } of job.states.diff(earlier)) {
  console.log(`  blocks ${firstBlock} to ${firstBlock + blockCount - 1}: ${from} -> ${to}`);
}
