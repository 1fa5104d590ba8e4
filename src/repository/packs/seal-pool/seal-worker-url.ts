/**
 * Where the worker's program is: in the sources, or in `dist/` beside the chunk of which this module is part
 * (`tsup.config.ts` builds it as `dist/seal-worker.js`). `undefined` in a CommonJS bundle, which does not know where it
 * is.
 */
export function sealWorkerUrl(): URL | undefined {
  const own: string | undefined = import.meta.url;
  if (own === undefined) return undefined;
  // Bundlers that follow `new URL(...)` must not take what they find there for an asset of the program's.
  return new URL(own.endsWith('.ts') ? '../../../seal-worker.ts' : './seal-worker.js', own);
}

/**
 * Where this library looks for the program of its worker threads, unless `workerUrl` says otherwise: the package's
 * `cow-cloud-backup/seal-worker`. `undefined` in a CommonJS bundle. Bundlers have to be shown it: see `docs/guides/bundlers.md`.
 *
 * @public
 */
export const SEAL_WORKER_URL: URL | undefined = sealWorkerUrl();
