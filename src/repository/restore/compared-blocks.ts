import type { AbortOptions } from '../../common/abort.ts';
import { isZero } from '../../common/bytes.ts';
import { letOthersRun } from '../../common/event-loop-turns.ts';
import type { RestoreDevice } from './restore-device.ts';
import type { RestoreSource } from './restore-source.ts';
import type { PlacedBlock } from './restore-windows.ts';

/** Bytes read from a device with one call. */
const READ_BYTES = 1024 * 1024;

/** Those blocks of a window that a device does not hold, by all of their bytes. */
export async function differingBlocks(
  source: RestoreSource,
  device: RestoreDevice,
  window: readonly PlacedBlock[],
  options: AbortOptions,
): Promise<PlacedBlock[]> {
  const differing: PlacedBlock[] = [];
  for (const run of runsOf(window)) {
    const start = (run[0] as PlacedBlock).span.offset;
    const last = (run.at(-1) as PlacedBlock).span;
    // A device may end within the last block, where less than all of it is asked for: then what there is has to do.
    const found = new Uint8Array(Math.min(last.offset + last.length, device.size) - start);
    await device.read(start, found, options);
    for (const placed of run) {
      const { offset, length } = placed.span;
      const bytes = found.subarray(offset - start, offset - start + length);
      if (!isBlock(source, placed, bytes)) differing.push(placed);
      await letOthersRun();
    }
  }
  return differing;
}

function isBlock(source: RestoreSource, { entry }: PlacedBlock, bytes: Uint8Array): boolean {
  if (entry === undefined) return isZero(bytes);
  return Buffer.compare(source.contentId(bytes), entry.id) === 0;
}

/** Neighbouring blocks that are read with one call. */
function* runsOf(window: readonly PlacedBlock[]): Generator<PlacedBlock[]> {
  let run: PlacedBlock[] = [];
  for (const placed of window) {
    const first = run[0];
    const last = run.at(-1);
    const isNext =
      first !== undefined &&
      last !== undefined &&
      placed.block === last.block + 1 &&
      placed.span.offset + placed.span.length - first.span.offset <= READ_BYTES;
    if (run.length > 0 && !isNext) {
      yield run;
      run = [];
    }
    run.push(placed);
  }
  if (run.length > 0) yield run;
}
