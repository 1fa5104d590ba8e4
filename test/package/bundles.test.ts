import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { rollup } from 'rollup';
import { build } from 'tsup';
import { build as buildWithVite } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/**
 * The package as `npm run build` makes it, in programs that are bundled, come from the command line, or may not start
 * threads. A backup is made in each; whether worker threads did the work shows in the warning that there is without them.
 */

const dist = join(import.meta.dirname, '../../dist');
const folder = mkdtempSync(join(tmpdir(), 'bundles-'));
const library = JSON.stringify(pathToFileURL(join(dist, 'index.js')));

/** @param options - of the repository, as source text */
const program = (load: string, options = '') => `
${load}
const main = async ({ BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget }) => {
  const device = new MemoryDevice(1 << 20);
  for (let at = 0; at < device.size; at += 4096) device.bytes.fill(1 + (at / 4096), at, at + 4000);
  const volume = await CopyOnWriteVolume.open(device, { blockSize: 4096 });
  const encryption = { key: new Uint8Array(32).fill(1) };
  const repository = await BackupRepository.create(new MemoryTarget(), { encryption, threads: 2 ${options} });
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const image = await repository.openBackup(id);
  const bytes = new Uint8Array(device.size);
  await image.read(0, bytes);
  console.log(Buffer.compare(bytes, device.bytes) === 0 ? 'the same' : 'different');
  await repository.close();
  await volume.close();
};
`;
const STATIC = `import * as library from ${JSON.stringify(join(dist, 'index.js'))};`;
const DYNAMIC = `${program(`const library = import(${library});`)}library.then(main);`;

interface Outcome {
  readonly output: string;
  readonly warnings: number;
}

/** Runs Node, and says what it printed and how often it warned that there are no threads. */
function run(args: readonly string[], options: { input?: string; shell?: string } = {}): Promise<Outcome> {
  const env = { ...process.env, NODE_OPTIONS: '' };
  const child =
    options.shell === undefined
      ? spawn(process.execPath, args, { cwd: folder, env })
      : spawn('sh', ['-c', options.shell, 'sh', process.execPath, ...args], { env });
  let [output, errors] = ['', ''];
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  child.stdin.end(options.input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => {
      if (code !== 0) reject(new Error(`exit code ${code}: ${errors}`));
      else resolve({ output: output.trim(), warnings: errors.split('COW_WORKER_UNAVAILABLE').length - 1 });
    });
  });
}

const IN_THREADS: Outcome = { output: 'the same', warnings: 0 };
const ON_ITS_OWN: Outcome = { output: 'the same', warnings: 1 };

/** Bundling takes long, so this is for `.ci/run`. */
const isSkipped = !process.env.CI;

beforeAll(async () => {
  if (isSkipped) return;
  if (!existsSync(join(dist, 'seal-worker.js'))) throw new Error('run npm run build first');
  const sources = {
    lost: `${program(STATIC)} main(library);`,
    led: `${program(STATIC, ", workerUrl: new URL('./seal-worker.mjs', import.meta.url)")} main(library);`,
    'led-cjs': `${program(STATIC, ", workerUrl: require('url').pathToFileURL(__dirname + '/seal-worker.cjs')")} main(library);`,
  };
  mkdirSync(join(folder, 'sources'));
  for (const [name, text] of Object.entries(sources)) writeFileSync(join(folder, 'sources', `${name}.js`), text);
  writeFileSync(join(folder, 'from-file.mjs'), DYNAMIC);
  const entry = Object.fromEntries(Object.keys(sources).map((name) => [name, join(folder, 'sources', `${name}.js`)]));
  await build({
    entry: { ...entry, 'seal-worker': join(dist, 'seal-worker.js') },
    format: ['esm', 'cjs'],
    outExtension: ({ format }) => ({ js: format === 'esm' ? '.mjs' : '.cjs' }),
    noExternal: [/.*/],
    platform: 'node',
    target: 'node22',
    splitting: false,
    outDir: join(folder, 'bundled'),
    config: false,
    dts: false,
    silent: true,
  });
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Packages that a bundle leaves outside are found where they are installed. */
const outside = (id: string) => (/^[a-z@]/.test(id) && !id.startsWith('node:') ? import.meta.resolve(id) : id);

describe.skipIf(isSkipped)('a bundle', () => {
  test.each(['es', 'cjs'] as const)('of rollup (%s) does without threads, and warns once', async (format) => {
    const bundle = await rollup({
      input: join(folder, 'sources', 'lost.js'),
      external: /^(node:|[a-z@])/,
      logLevel: 'silent',
    });
    const file = join(folder, 'rollup', `lost.${format === 'es' ? 'mjs' : 'cjs'}`);
    // CommonJS can't load the packages' ES modules by a path, so it finds them by name.
    await bundle.write({ file, format, ...(format === 'es' ? { paths: outside } : {}), inlineDynamicImports: true });
    await bundle.close();
    if (format === 'cjs' && !existsSync(join(folder, 'node_modules'))) {
      symlinkSync(join(import.meta.dirname, '../../node_modules'), join(folder, 'node_modules'), 'junction');
    }
    expect(await run([file])).toEqual(ON_ITS_OWN);
  });

  test('of Vite that says where the worker is has threads', async () => {
    const outDir = join(folder, 'vite');
    await buildWithVite({
      configFile: false,
      logLevel: 'silent',
      root: folder,
      ssr: { noExternal: true },
      build: {
        ssr: true,
        outDir,
        target: 'node22',
        rollupOptions: {
          input: { led: join(folder, 'sources', 'led.js'), 'seal-worker': join(dist, 'seal-worker.js') },
          output: { entryFileNames: '[name].mjs' },
        },
      },
    });
    expect(await run([join(outDir, 'led.mjs')])).toEqual(IN_THREADS);
  });

  test.each(['lost.mjs', 'lost.cjs'])('%s does without threads, and warns once', async (name) => {
    expect(await run([join('bundled', name)])).toEqual(ON_ITS_OWN);
  });

  test.each(['led.mjs', 'led-cjs.cjs'])('%s that says where the worker is has threads', async (name) => {
    expect(await run([join('bundled', name)])).toEqual(IN_THREADS);
  });
});

describe.skipIf(isSkipped)('a program', () => {
  test('from the command line has threads', async () => {
    expect(await run(['--input-type=module', '-e', DYNAMIC])).toEqual(IN_THREADS);
    expect(await run(['-e', DYNAMIC])).toEqual(IN_THREADS);
  });

  test('from the standard input has threads', async () => {
    expect(await run(['--input-type=module', '-'], { input: DYNAMIC })).toEqual(IN_THREADS);
    expect(await run([], { input: DYNAMIC })).toEqual(IN_THREADS);
  });

  test.skipIf(process.platform === 'win32')('whose working directory is gone makes its backup', async () => {
    const shell = 'cd "$(mktemp -d)" && rmdir "$PWD" && exec "$@"';
    const { output, warnings } = await run([join(folder, 'from-file.mjs')], { shell });
    expect(output).toBe('the same');
    expect(warnings).toBeLessThanOrEqual(1);
  });

  test('that may not start threads does without, and warns once', async () => {
    const allowed = ['--permission', '--allow-fs-read=*'];
    expect(await run([...allowed, 'from-file.mjs'])).toEqual(ON_ITS_OWN);
    expect(await run([...allowed, '--allow-worker', 'from-file.mjs'])).toEqual(IN_THREADS);
  });
});
