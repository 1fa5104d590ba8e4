import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Node's compile cache for all processes of a run, for vitest's `globalSetup`. Tests start hundreds of processes and threads that
 * load the sources, which would be stripped of their types and compiled each time. `NODE_COMPILE_CACHE` chooses another folder,
 * and none if it is empty.
 */
export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env.NODE_COMPILE_CACHE !== undefined) return undefined;
  const folder = await mkdtemp(join(tmpdir(), 'cow-compiled-'));
  process.env.NODE_COMPILE_CACHE = folder;
  // A process that is on its way out may write to it still.
  return () => rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
