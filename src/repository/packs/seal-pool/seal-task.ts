import { isZero } from '../../../common/bytes.ts';
import { contentId } from '../../format/derivation.ts';
import { RecordKind } from '../../format/record.ts';
import { sealRecordInto } from '../record-sealing.ts';
import type { SlotMemory } from './slot-memory.ts';

/** What is done with a slot's blocks, in a worker or in process: the same code, so that both give the same bytes. */
export type SealTask =
  /** Tests every block for zeroes, and makes the ids of the others. */
  | { readonly type: 'identify'; readonly lengths: readonly number[] }
  /** Compresses and encrypts some of the blocks, which have their ids already. */
  | { readonly type: 'seal'; readonly lengths: readonly number[]; readonly which: readonly number[] };

/** What sealing needs to know in addition. Keys are `undefined` in a plain repository. */
export interface SealSettings {
  readonly contentIdKey: Uint8Array | undefined;
  readonly recordKey: Uint8Array | undefined;
  /** Of zstd. */
  readonly level: number;
}

/** Results of `identify`. */
export const IS_ZERO = 0;
export const HAS_ID = 1;

/** Does a task a block at a time; ids, records and results are in the slot when it is over. */
export function* sealSteps(memory: SlotMemory, task: SealTask, settings: SealSettings): Generator<void> {
  if (task.type === 'identify') {
    for (const [block, length] of task.lengths.entries()) {
      identify(memory, block, length, settings);
      yield;
    }
    return;
  }
  for (const block of task.which) {
    seal(memory, block, task.lengths[block] as number, settings);
    yield;
  }
}

function identify(memory: SlotMemory, block: number, length: number, { contentIdKey }: SealSettings): void {
  const raw = memory.plaintext(block, length);
  if (isZero(raw)) {
    memory.setResult(block, IS_ZERO, 0);
    return;
  }
  memory.id(block).set(contentId(contentIdKey, raw));
  memory.setResult(block, HAS_ID, 0);
}

function seal(memory: SlotMemory, block: number, length: number, { recordKey, level }: SealSettings): void {
  const head = { kind: RecordKind.block, id: memory.id(block) };
  const raw = memory.plaintext(block, length);
  const { codec, storedLength } = sealRecordInto(memory.output(block), recordKey, head, raw, level);
  memory.setResult(block, storedLength, codec);
}
