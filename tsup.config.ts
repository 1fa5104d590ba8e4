import { defineConfig } from 'tsup';

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    s3: 'src/s3.ts',
    testing: 'src/testing.ts',
    // What `sealWorkerUrl` starts threads with: it must lie in `dist/` beside the chunks.
    'seal-worker': 'src/seal-worker.ts',
  },
  format: 'esm',
  target: 'node22',
  platform: 'node',
  splitting: true, // One copy of each class, whichever entry it is reached through.
  sourcemap: true,
  clean: true,
  dts: false, // `tsc` emits the declarations; see docs/decisions/002-package.md
});
