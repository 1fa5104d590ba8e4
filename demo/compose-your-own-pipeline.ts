/**
 * The method, composed by hand from the public pieces: first instruction, interception, comparison, query, second
 * instruction, completion, restore. One object a block, for the sake of being read; what is under `support/` is only
 * the stage: a disk to back up, a writer that keeps writing to it, and a screen.
 */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  BackupError,
  type BlockRange,
  BlockStateMap,
  type CloudTarget,
  type CopyOnWriteVolume,
  FileDevice,
} from 'cow-cloud-backup';
import PQueue from 'p-queue';
import type { Backup, Restore } from './support/method.ts';
import { runMethod } from './support/run-method.ts';

const COMPARE_EVERY_MS = 100;
const PARALLEL = 16;
const MAX_FAILURES = 100; // Counts puts that `withRetries` has tried six times already.
const SWEPT = 0;
const INTERCEPTED = 1; // These go first: a pre-image takes up room until it is stored.

/** From the first instruction to completion: then the target holds the volume as it was at one instant. */
async function backUp(volume: CopyOnWriteVolume, target: CloudTarget, demo: Backup): Promise<void> {
  const { signal, tally } = demo;

  // The first instruction copies nothing: the baseline records the state of every block at the instant.
  await using snapshot = await volume.createSnapshot({ atInstant: demo.copyReference });
  const { states, size, blockSize } = snapshot;
  const baseline = states.clone();
  demo.frozen(snapshot, baseline);

  // How one block is stored. Reading the snapshot gives the pre-image, or what the device holds if that is still it.
  const uploads = new PQueue({ concurrency: PARALLEL });
  const hashes = new Array<string | null>(states.blockCount).fill(null);
  const upload = async (block: number, priority: number) => {
    const bytes = new Uint8Array(Math.min(blockSize, size - block * blockSize));
    await snapshot.read(block * blockSize, bytes, { signal });
    if (isZero(bytes)) return snapshot.mark(block, 'zero'); // There is nothing to store.
    hashes[block] = sha256(bytes);
    await target.put(keyOf(block), bytes, { signal });
    snapshot.mark(block, 'stored'); // From here on it is overwritten freely.
    tally.stored(block, bytes.length, priority === INTERCEPTED);
  };
  const store = (block: number, priority: number) => {
    snapshot.mark(block, 'storing');
    uploads
      .add(() => upload(block, priority), { priority })
      .catch((error) => {
        snapshot.mark(block, 'failed'); // The block is where it was before: a later comparison, or the sweep, finds it again.
        if (!BackupError.is(error) || !error.retryable || ++tally.failures > MAX_FAILURES) demo.fail(error);
      });
  };

  // Intercepting is the volume's own work. Comparing with the last record shows what it has preserved since.
  let last = baseline;
  const compare = () => {
    for (const block of blocksOf(states.diff(last))) if (states.get(block) === 'preserved') store(block, INTERCEPTED);
    last = states.clone();
  };
  using _comparing = setInterval(compare, COMPARE_EVERY_MS);
  const isComplete = () => states.counts.stored + states.counts.zero === states.blockCount;
  for (const end = Date.now() + demo.lazyMs; Date.now() < end && !isComplete(); ) {
    await delay(COMPARE_EVERY_MS, undefined, { signal });
  }

  // Ask, at any time: how much is stored already, and where each block's content is now.
  demo.asked(states.counts, (block) => states.get(block));

  // The second instruction stores the remaining blocks in order. Interception goes on, and every block is stored once.
  while (!isComplete()) {
    for (const block of blocksOf(states.ranges('pending'))) {
      await uploads.onSizeLessThan(PARALLEL);
      signal.throwIfAborted();
      if (states.get(block) === 'pending') store(block, SWEPT);
    }
    compare();
    await uploads.onIdle();
    signal.throwIfAborted();
  }

  // The backup is complete. The manifest is put last: where there is one, all that it names is there too.
  const record = await states.encode();
  const manifest = { size, blockSize, frozenAt: snapshot.frozenAt, record: sha256(record), blocks: hashes };
  await target.put('record/states', record, { signal });
  await target.put('record/manifest.json', new TextEncoder().encode(JSON.stringify(manifest)), { signal });
}

/** Makes a new file of what the target holds, and believes nothing that does not have its hash. */
async function restore(target: CloudTarget, path: string, { signal, restored, fail }: Restore): Promise<void> {
  const manifest = JSON.parse(new TextDecoder().decode(await target.get('record/manifest.json', { signal })));
  const verified = async (key: string, hash: string) => {
    const bytes = await target.get(key, { signal });
    if (sha256(bytes) === hash) return bytes;
    throw new BackupError('CHECKSUM_MISMATCH', `object ${key} is not what was stored under that name`);
  };
  const states = await BlockStateMap.decode(await verified('record/states', manifest.record));
  await using device = await FileDevice.open(path, { create: { sizeBytes: manifest.size } });
  const downloads = new PQueue({ concurrency: PARALLEL });
  const download = async (block: number) => {
    await device.write(block * manifest.blockSize, await verified(keyOf(block), manifest.blocks[block]), { signal });
    restored(states.counts.stored);
  };
  for (const block of blocksOf(states.ranges('stored'))) {
    await downloads.onSizeLessThan(PARALLEL);
    downloads.add(() => download(block)).catch(fail);
  }
  await downloads.onIdle();
  signal.throwIfAborted();
  await device.flush();
}

const keyOf = (block: number) => `blocks/${String(block).padStart(6, '0')}`;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const isZero = (bytes: Uint8Array) => Buffer.alloc(bytes.length).equals(bytes);

function* blocksOf(ranges: Iterable<BlockRange>): Generator<number> {
  for (const { firstBlock, blockCount } of ranges) {
    for (let block = firstBlock; block < firstBlock + blockCount; block++) yield block;
  }
}

await runMethod(process.argv.slice(2), { backUp, restore });
