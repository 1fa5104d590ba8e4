import type { MessagePort } from 'node:worker_threads';
import { isZero } from '../../../common/bytes.ts';
import { contentId, ID_BYTES, KEY_BYTES } from '../../format/derivation.ts';
import { RecordKind } from '../../format/record.ts';
import { maxStoredLength, sealRecordInto } from '../record-sealing.ts';

/** What a worker does: the shared memory of slots, the tasks on their blocks, and the messages that ask for them. */

export interface SealSetup {
  readonly slots: readonly SharedArrayBuffer[];
  readonly geometry: SlotGeometry;
  /** Content id key and record key, in shared memory: one copy for all threads, which the pool zeroes in the end. */
  readonly keys: SharedArrayBuffer | undefined;
  readonly level: number;
}

/** A task for a worker. Requests are answered in their order. */
export interface SealRequest {
  readonly slot: number;
  readonly task: SealTask;
}

/** `error` is set if the task failed although the worker is well. */
export interface SealAnswer {
  readonly error?: unknown;
}

/** The first message of a worker: it has started, and will do tasks. */
export const READY = 'cow-cloud-backup seal worker is ready';

/** Copies the keys that workers need, and no others, into memory that can be shared. */
export function shareKeys(contentIdKey: Uint8Array, recordKey: Uint8Array): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(2 * KEY_BYTES);
  const bytes = new Uint8Array(shared);
  bytes.set(contentIdKey);
  bytes.set(recordKey, KEY_BYTES);
  return shared;
}

/** Does tasks for a pool, whichever thread it runs in. */
export class SealService {
  readonly #memories: readonly SlotMemory[];
  readonly #settings: SealSettings;

  constructor({ slots, geometry, keys, level }: SealSetup) {
    this.#memories = slots.map((shared) => new SlotMemory(shared, geometry));
    this.#settings = {
      contentIdKey: keys && new Uint8Array(keys, 0, KEY_BYTES),
      recordKey: keys && new Uint8Array(keys, KEY_BYTES, KEY_BYTES),
      level,
    };
  }

  run(request: SealRequest): void {
    for (const _ of this.steps(request));
  }

  /** As `run`, with a block in each step. */
  steps({ slot, task }: SealRequest): Generator<void> {
    return sealSteps(this.#memories[slot] as SlotMemory, task, this.#settings);
  }
}

/** The worker's side: answers every request. */
export function serveSealRequests(port: MessagePort, setup: SealSetup): void {
  const service = new SealService(setup);
  port.on('message', (request: SealRequest) => {
    let answer: SealAnswer = {};
    try {
      service.run(request);
    } catch (error) {
      answer = { error };
    }
    port.postMessage(answer);
  });
  port.postMessage(READY);
}

/** What is done with a slot's blocks. Workers and the calling thread run the same code, so that both make the same bytes. */
export type SealTask =
  /** Tests every block for zeroes, and makes the ids of the others. */
  | { readonly type: 'identify'; readonly lengths: readonly number[] }
  /** Compresses and encrypts some of the blocks, which have their ids already. */
  | { readonly type: 'seal'; readonly lengths: readonly number[]; readonly which: readonly number[] };

/** What sealing needs in addition. Keys are `undefined` in a plain repository. */
interface SealSettings {
  readonly contentIdKey: Uint8Array | undefined;
  readonly recordKey: Uint8Array | undefined;
  /** The compression level of zstd. */
  readonly level: number;
}

/** Results of `identify`. */
const IS_ZERO = 0;
export const HAS_ID = 1;

/** Does a task a block at a time; ids, records and results are in the slot when it is over. */
function* sealSteps(memory: SlotMemory, task: SealTask, settings: SealSettings): Generator<void> {
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

export interface SlotGeometry {
  /** The most bytes of a block. */
  readonly blockSize: number;
  readonly blocks: number;
}

/** Each block has two: its stored length, and its codec. */
const RESULT_WORDS = 2;

/** Bytes of shared memory that a slot takes. */
export function slotBytes({ blockSize, blocks }: SlotGeometry): number {
  return blocks * (RESULT_WORDS * 4 + ID_BYTES + blockSize + maxStoredLength(blockSize));
}

/**
 * The shared memory of one slot, seen from either side: results, ids, plaintext in, sealed records out. The plaintext
 * stays as it was, so that a block can be sealed again after a worker died. Messages decide which side may touch it: the
 * pool's side while no task is under way, the worker during a task.
 */
export class SlotMemory {
  /** Plaintext, block by block without gaps. */
  readonly input: Uint8Array;
  readonly #geometry: SlotGeometry;
  readonly #results: Int32Array;
  readonly #ids: Uint8Array;
  readonly #output: Uint8Array;

  constructor(shared: SharedArrayBuffer, geometry: SlotGeometry) {
    const { blockSize, blocks } = geometry;
    this.#geometry = geometry;
    this.#results = new Int32Array(shared, 0, blocks * RESULT_WORDS);
    this.#ids = new Uint8Array(shared, this.#results.byteLength, blocks * ID_BYTES);
    this.input = new Uint8Array(shared, this.#ids.byteOffset + this.#ids.byteLength, blocks * blockSize);
    this.#output = new Uint8Array(shared, this.input.byteOffset + this.input.byteLength);
  }

  plaintext(block: number, length: number): Uint8Array {
    const at = block * this.#geometry.blockSize;
    return this.input.subarray(at, at + length);
  }

  /** Where a block's content id goes. */
  id(block: number): Uint8Array {
    return this.#ids.subarray(block * ID_BYTES, (block + 1) * ID_BYTES);
  }

  /** Where a block's sealed record goes. */
  output(block: number): Uint8Array {
    const stride = maxStoredLength(this.#geometry.blockSize);
    return this.#output.subarray(block * stride, (block + 1) * stride);
  }

  setResult(block: number, first: number, second: number): void {
    this.#results[block * RESULT_WORDS] = first;
    this.#results[block * RESULT_WORDS + 1] = second;
  }

  result(block: number): readonly [number, number] {
    return [this.#results[block * RESULT_WORDS] as number, this.#results[block * RESULT_WORDS + 1] as number];
  }
}
