/** What a pipeline does to the event loop, over volumes of which most was never written. */
import { setImmediate } from 'node:timers/promises';
import {
  BackupPipeline,
  BlockStateMap,
  CopyOnWriteVolume,
  checksum,
  compression,
  encryption,
  MemoryDevice,
  PipelineRecord,
  restoreBlocks,
} from '../../src/index.ts';
import type { Step } from './longest-step.ts';
import { BLOCK, sparseDevice } from './sparse-device.ts';

const HUGE = 2 ** 28;
const SWEPT = 2 ** 17;
const SCATTERED = 20_000;

const one = new Uint8Array(BLOCK).fill(7);
const store = async () => {};

const open = (blocks: number) =>
  CopyOnWriteVolume.open(sparseDevice(blocks, 1), { blockSize: BLOCK, preserve: { memoryBytes: 2 ** 28 } });

/** First overwrites all over the volume. */
async function overwrite(volume: CopyOnWriteVolume, blocks: number): Promise<void> {
  for (let nth = 0; nth < SCATTERED; nth++) {
    await volume.write(((nth * 13_421) % blocks) * BLOCK, one);
    if (nth % 64 === 0) await setImmediate();
  }
}

export async function pipelines(step: Step): Promise<void> {
  await using volume = await open(HUGE);
  await using snapshot = await volume.createSnapshot();
  await overwrite(volume, HUGE);
  const lazy = await step(`pipeline of 2^28 blocks: start, ${SCATTERED} scattered pre-images wait`, async () => {
    const started = BackupPipeline.start(snapshot, { store });
    while (snapshot.states.counts.preserved + snapshot.states.counts.storing > 0) await setImmediate();
    return started;
  });
  await step('pipeline of 2^28 blocks: ask, progress, record', () => {
    lazy.ask();
    lazy.ask({ firstBlock: 1, blockCount: HUGE - 2 });
    lazy.progress();
    lazy.record();
  });
  const record = lazy.record();
  await step('pipeline of 2^28 blocks: close', () => lazy.close());
  const encoded = await step('record of 2^28 blocks: encode', () => record.encode());
  await step('record of 2^28 blocks: decode', () => PipelineRecord.decode(encoded));
  for (const { firstBlock, blockCount } of snapshot.states.ranges('pending'))
    snapshot.mark({ firstBlock, blockCount }, 'inherited');
  const { frozenAt, point, size, states } = snapshot;
  await overwrite(volume, HUGE);
  await using next = await volume.createSnapshot();
  await step(`pipeline of 2^28 blocks: ${SCATTERED} changed`, async () => {
    const previous = new PipelineRecord({ size, blockSize: BLOCK, frozenAt, point, states: states.clone() });
    await BackupPipeline.start(next, { store, previous }).sweep().done;
  });

  for (const [name, blocks, blockSize, transforms] of [
    ['', SWEPT, BLOCK, []],
    [', checked', SWEPT, BLOCK, [checksum()]],
    [' of 4 MiB, checked', 32, 2 ** 22, [checksum()]],
    [' of 4 MiB, compressed and encrypted', 32, 2 ** 22, [compression(), encryption(one.slice(0, 32))]],
  ] as const) {
    const bytes = new Uint8Array(blockSize).fill(7);
    const at0 = transforms.map((each) => ({
      ...each,
      undo: (of: Uint8Array) => each.undo(of, { block: 0, blockBytes: blockSize }),
    }));
    let stored: Uint8Array = bytes;
    for (const each of transforms) stored = await each.apply(stored, { block: 0, blockBytes: blockSize });
    const restorable = new PipelineRecord({
      size: blocks * blockSize,
      blockSize,
      frozenAt,
      point,
      states: new BlockStateMap(blocks, 'inherited'),
    });
    const onto = new MemoryDevice(restorable.size);
    await step(`restore of ${blocks} blocks${name}`, () =>
      restoreBlocks(restorable, onto, { load: () => stored, transforms: at0 }),
    );
  }

  await using small = await open(SWEPT);
  for (const [name, transforms] of [
    ['', []],
    [', compressed and encrypted', [compression(), encryption(one.slice(0, 32))]],
  ] as const) {
    await using whole = await small.createSnapshot();
    const device = whole.volume;
    await step(`pipeline of ${SWEPT} blocks: sweep${name}, host writes`, async () => {
      const pipeline = BackupPipeline.start(whole, { store, transforms }).sweep();
      await Promise.all([pipeline.done, overwrite(device as CopyOnWriteVolume, SWEPT)]);
    });
  }
}
