import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { serveSealRequests } from './seal-service.ts';

/** What the threads of a `SealPool` run. An entry of its own in the build: see `seal-worker-url.ts`. */
serveSealRequests(parentPort as MessagePort, workerData);
