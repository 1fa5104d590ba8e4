import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { serveSealRequests } from './repository/packs/seal-pool/seal-service.ts';

/** What the threads of a repository run. An entry of its own in the build and in the package: see `docs/guides/bundlers.md`. */
serveSealRequests(parentPort as MessagePort, workerData);
