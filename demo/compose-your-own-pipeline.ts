/**
 * The method, without a repository: first instruction, record, compare, upload, ask, second instruction, complete, restore.
 * One object a block, for the sake of being read; what is under `support/` is only the stage: a disk to back up, a
 * writer that keeps writing to it, and a screen.
 */
import type { CloudTarget, CopyOnWriteVolume, StoreBlock } from 'cow-cloud-backup';
import { BackupPipeline, checksum, FileDevice, PipelineRecord, restoreBlocks } from 'cow-cloud-backup';
import type { BackupShow, RestoreShow } from './support/method.ts';
import { runMethod } from './support/run-method.ts';

const keyOf = (block: number) => `blocks/${String(block).padStart(6, '0')}`;
const transforms = [checksum()]; // Put `compression()` and `encryption(key)` here, or one of your own.

/** From the first instruction to completion: then the target holds the volume as it was at one instant. */
async function backUp(volume: CopyOnWriteVolume, target: CloudTarget, show: BackupShow): Promise<void> {
  // The first instruction copies nothing. From here on, a block is preserved just before it is overwritten.
  await using snapshot = await volume.createSnapshot({ atInstant: show.atInstant });
  // Record the state of every block, compare the record with the one before, and upload what was preserved in between.
  const store: StoreBlock = (block, bytes, { signal }) => target.put(keyOf(block), bytes, { signal });
  await using pipeline = BackupPipeline.start(snapshot, { store, transforms, signal: show.signal });
  await show.interception(pipeline);
  // Ask, at any time: how much is safe already, and where each block's content is now.
  show.answer(pipeline.ask(), pipeline.states);
  // The second instruction uploads the remaining blocks in order. Interception goes on, and every block is stored once.
  pipeline.sweep();
  // The backup is complete. The record goes up last: where there is one, all that it names is there too.
  const { record } = await pipeline.done;
  await target.put('record', await record.encode(), { signal: show.signal });
}

/** To restore is to make a new file of what the target holds, and to believe nothing that does not match its checksum. */
async function restore(target: CloudTarget, path: string, { signal, onProgress }: RestoreShow): Promise<void> {
  const record = await PipelineRecord.decode(await target.get('record', { signal }));
  await using device = await FileDevice.open(path, { create: { sizeBytes: record.size } });
  const load = (block: number) => target.get(keyOf(block), { signal });
  await restoreBlocks(record, device, { load, transforms, signal, onProgress });
}

await runMethod(process.argv.slice(2), { backUp, restore });
