import { defineConfig } from 'tsup';

export default defineConfig({
  entry: ['src/index.ts', 'src/s3.ts', 'src/testing.ts'],
  format: 'esm',
  target: 'node22',
  platform: 'node',
  splitting: true, // One copy of each class, whichever entry it is reached through.
  sourcemap: true,
  clean: true,
  dts: false, // `tsc` emits the declarations; see docs/decisions/002-package.md
});
