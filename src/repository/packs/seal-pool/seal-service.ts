import type { MessagePort } from 'node:worker_threads';
import { KEY_BYTES } from '../../format/derivation.ts';
import { type SealSettings, type SealTask, sealSteps } from './seal-task.ts';
import { type SlotGeometry, SlotMemory } from './slot-memory.ts';

/** What a worker is started with. */
export interface SealSetup {
  readonly slots: readonly SharedArrayBuffer[];
  readonly geometry: SlotGeometry;
  /** Content id key and record key, in shared memory: one copy for all threads, which the pool zeroes in the end. */
  readonly keys: SharedArrayBuffer | undefined;
  readonly level: number;
}

/** A task for a worker. Answered in the order of asking. */
export interface SealRequest {
  readonly slot: number;
  readonly task: SealTask;
}

/** `error` is set where the task failed although the worker is well. */
export interface SealAnswer {
  readonly error?: unknown;
}

/** The first message of a worker: it has come up, and will do tasks. */
export const READY = 'cow-cloud-backup seal worker is ready';

/** Keys that workers need, and no others, in memory that can be shared. */
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

  /** As `run`, a block at each step. */
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
