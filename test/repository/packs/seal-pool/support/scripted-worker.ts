import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import {
  READY,
  type SealRequest,
  SealService,
  type SealSetup,
  SlotMemory,
} from '../../../../../src/repository/packs/seal-pool/seal-service.ts';

/**
 * A worker that does what the first bytes of a slot's plaintext tell it to (`EXIT`, `THROW`, `HOLD`), and else what
 * any worker does. `HOLD` shows -1 in the slot's first word, and goes on when somebody puts something else there.
 */
const setup = workerData as SealSetup;
const service = new SealService(setup);
const port = parentPort as MessagePort;

port.on('message', (request: SealRequest) => {
  const shared = setup.slots[request.slot] as SharedArrayBuffer;
  const script = Buffer.from(new SlotMemory(shared, setup.geometry).input.subarray(0, 5)).toString('latin1');
  if (script.startsWith('EXIT')) process.exit(3);
  if (script.startsWith('THROW')) throw new Error('thrown by the script');
  if (script.startsWith('HOLD')) {
    const words = new Int32Array(shared, 0, 1);
    Atomics.store(words, 0, -1);
    Atomics.notify(words, 0);
    Atomics.wait(words, 0, -1);
  }
  service.run(request);
  port.postMessage({});
});
port.postMessage(READY);
