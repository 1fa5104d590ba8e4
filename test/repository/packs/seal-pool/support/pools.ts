import { RepositoryKeys } from '../../../../../src/repository/crypto/repository-keys.ts';
import { RecordKind } from '../../../../../src/repository/format/record.ts';
import { openRecord } from '../../../../../src/repository/packs/record-sealing.ts';
import type { SealPoolOptions } from '../../../../../src/repository/packs/seal-pool/seal-pool.ts';
import { type SealedBlock, SealPool } from '../../../../../src/repository/packs/seal-pool/seal-pool.ts';
import { slotBytes } from '../../../../../src/repository/packs/seal-pool/seal-service.ts';
import type { SealSlot } from '../../../../../src/repository/packs/seal-pool/seal-slot.ts';

export const BLOCK = 4096;

/** A pool of `slots` slots of one block each, for plain records, with workers that follow a script. */
export function scriptedPool(slots: number, options: Partial<SealPoolOptions> = {}): SealPool {
  const memoryBytes = slots * slotBytes({ blockSize: BLOCK, blocks: 1 });
  const workerUrl = new URL('./scripted-worker.ts', import.meta.url);
  return new SealPool({
    keys: RepositoryKeys.plain(),
    blockSize: BLOCK,
    threads: 1,
    memoryBytes,
    workerUrl,
    ...options,
  });
}

/** Fills the slot's first block: a script, and then something that does not compress to nothing. */
export function write(slot: SealSlot, text: string): void {
  slot.input.fill(0x2e, 0, BLOCK);
  slot.input.set(Buffer.from(text));
}

/** Resolves when a worker holds at the slot's `HOLD`. */
export async function held(slot: SealSlot): Promise<void> {
  const words = new Int32Array(slot.input.buffer as SharedArrayBuffer, 0, 1);
  while (Atomics.load(words, 0) !== -1) await Atomics.waitAsync(words, 0, Atomics.load(words, 0)).value;
}

/** Lets the worker go on. */
export function letGo(slot: SealSlot): void {
  const words = new Int32Array(slot.input.buffer as SharedArrayBuffer, 0, 1);
  Atomics.store(words, 0, 0);
  Atomics.notify(words, 0);
}

/** Has everything identified and sealed, and gives each block's raw bytes as they open from its record. */
export async function throughPool(
  pool: SealPool,
  keys: RepositoryKeys,
  blocks: readonly Uint8Array[],
): Promise<{ ids: (Uint8Array | undefined)[]; opened: Map<number, Buffer>; sealed: SealedBlock[] }> {
  using slot = await pool.acquire();
  blocks.forEach((block, index) => {
    slot.input.set(block, index * pool.blockSize);
  });
  const ids = await pool.identify(
    slot,
    blocks.map((block) => block.length),
  );
  const present = [...ids.keys()].filter((index) => ids[index] !== undefined);
  const sealed = (await pool.seal(slot, present)).map((block) => ({ ...block, bytes: block.bytes.slice() }));
  const opened = new Map<number, Buffer>();
  for (const { block, codec, bytes } of sealed) {
    const record = { kind: RecordKind.block, id: ids[block]!, codec, rawLength: blocks[block]!.length };
    opened.set(block, Buffer.from(openRecord(keys, 128, record, bytes)));
  }
  return { ids, opened, sealed };
}
