/**
 * Where the worker's program is: beside this module, in the sources as in the bundle. There this module is part of some
 * chunk in `dist/`, and `tsup.config.ts` builds the worker as `dist/seal-worker.js`.
 */
export function sealWorkerUrl(): URL {
  const isSource = import.meta.url.endsWith('.ts');
  return new URL(isSource ? './seal-worker.ts' : './seal-worker.js', import.meta.url);
}
