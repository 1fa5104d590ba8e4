import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/** The package as its users get it: packed, installed into an empty project, compiled against and run. */

const root = join(import.meta.dirname, '../..');
let project: string;

const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** Installing and compiling take long, so this is for `.ci/run`. */
const isSkipped = !process.env.CI;

beforeAll(() => {
  if (isSkipped) return;
  project = mkdtempSync(join(tmpdir(), 'consumer-'));
  // Built already; building again would take `dist` from under the tests that run beside this one.
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', project], {
    cwd: root,
    stdio: 'ignore',
  });
  const [tarball] = readdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  run('npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', '--silent', `./${tarball}`, '@types/node@22');
}, 240_000);

afterAll(() => rmSync(project, { recursive: true, force: true }));

const PROGRAM = `
import { BackupError, BlockStateMap, CopyOnWriteVolume, FileTarget, MemoryDevice, pageDevice } from 'cow-cloud-backup';
import type { BlockDevice, CloudTarget, SyncVolumeAccess, VolumeSnapshot } from 'cow-cloud-backup';
import { S3Target } from 'cow-cloud-backup/s3';
import { deviceConformance, FaultyTarget, targetConformance } from 'cow-cloud-backup/testing';

const device = new MemoryDevice(1 << 20);
await using volume: CopyOnWriteVolume & SyncVolumeAccess = await CopyOnWriteVolume.open(device, { name: undefined });
await volume.write(0, new Uint8Array(4096).fill(1));
await using snapshot: VolumeSnapshot = await volume.createSnapshot();
volume.writeSync(0, new Uint8Array(4096).fill(2));
const into = new Uint8Array(4096);
await snapshot.read(0, into);
const baseline: BlockStateMap = snapshot.states.clone();
const target: CloudTarget = new FileTarget(process.argv[2] ?? '.');
await target.put('a/b', new Uint8Array([1, 2, 3]), { createOnly: true, signal: undefined });
const lost: boolean = await target.put('a/b', new Uint8Array(1), { createOnly: true }).then(
  () => false,
  (error: unknown) => BackupError.is(error, 'OBJECT_EXISTS'),
);
const pages = new Map<number, Uint8Array>();
const paged: BlockDevice = pageDevice({
  pageSize: 4096,
  pageCount: 16,
  readPage: (page, into) => void into.set(pages.get(page) ?? new Uint8Array(4096)),
  writePage: (page, from) => void pages.set(page, from.slice()),
  sync: () => {},
});
const cases = [
  ...deviceConformance({ open: async ({ size }) => new MemoryDevice(size) }),
  ...targetConformance({ open: async () => target }),
];
console.log(JSON.stringify([into[0], baseline.counts.pending, lost, paged.size, cases.length > 20, typeof S3Target, typeof FaultyTarget]));
`;

const PRINTED = '[1,15,true,65536,true,"function","function"]';

/** The oldest TypeScript that consumers may have, and ours. */
const COMPILERS = { floor: 'typescript-floor', newest: 'typescript' };
const versionOf = (compiler: string) =>
  (JSON.parse(readFileSync(join(root, 'node_modules', compiler, 'package.json'), 'utf8')) as { version: string })
    .version;

const CONFIGURATIONS = Object.entries(COMPILERS).flatMap(([name, compiler]) =>
  [false, true].map((skipLibCheck) => ({ name, compiler, skipLibCheck })),
);

describe.skipIf(isSkipped)('the packed package', () => {
  test.each(CONFIGURATIONS)(
    'compiles under strict settings with the $name TypeScript, skipLibCheck: $skipLibCheck, and runs',
    ({ name, compiler, skipLibCheck }) => {
      const folder = `${name}-${skipLibCheck}`;
      mkdirSync(join(project, folder));
      writeFileSync(join(project, folder, 'program.mts'), PROGRAM);
      const compilerOptions = {
        target: 'es2024',
        lib: ['es2024', 'esnext.disposable'],
        module: 'nodenext',
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        skipLibCheck,
        types: ['node'],
        outDir: 'out',
      };
      writeFileSync(
        join(project, folder, 'tsconfig.json'),
        JSON.stringify({ compilerOptions, files: ['program.mts'] }),
      );
      let printed: string;
      try {
        printed = run(process.execPath, join(root, 'node_modules', compiler, 'bin/tsc'), '-p', folder);
      } catch (error) {
        throw new Error((error as { stdout: string }).stdout);
      }
      expect(printed).toBe('');
      const output = run(process.execPath, `${folder}/out/program.mjs`, join(project, folder, 'objects'));
      expect(output.trim()).toBe(PRINTED);
    },
  );

  test('is compiled with TypeScript 5.7 and with 6; our own compiler is the latter', () => {
    expect(versionOf(COMPILERS.floor)).toMatch(/^5\.7\./);
    expect(versionOf(COMPILERS.newest)).toMatch(/^6\./);
    const [command, ...args] = ['npx', '--no-install', 'tsc', '--version'] as const;
    expect(execFileSync(command, args, { cwd: root, encoding: 'utf8' })).toContain(versionOf(COMPILERS.newest));
  });

  test('has what its documents link to, and does not bring minio', () => {
    const installed = join(project, 'node_modules/cow-cloud-backup');
    const pages = readdirSync(installed, { recursive: true, encoding: 'utf8' }).filter(
      (path) => path.endsWith('.md') && path !== 'CONTRIBUTING.md',
    ); // That one is about the sources.
    const broken = pages.flatMap((page) =>
      [...readFileSync(join(installed, page), 'utf8').matchAll(/\]\((?!https?:)([^)#]+)/g)]
        .filter(([, link]) => !existsSync(join(installed, dirname(page), link as string)))
        .map(([, link]) => `${page}: ${link}`),
    );
    expect(pages.length).toBeGreaterThan(20);
    expect(broken).toEqual([]);
    expect(existsSync(join(project, 'node_modules/minio'))).toBe(false);
  });

  test('loads from a CommonJS program, with one copy of each class', () => {
    writeFileSync(
      join(project, 'program.cjs'),
      `const { BackupError, MemoryDevice, CopyOnWriteVolume } = require('cow-cloud-backup');
       const { FaultyTarget } = require('cow-cloud-backup/testing');
       CopyOnWriteVolume.open(new MemoryDevice(8192)).then((volume) => volume.read(0, new Uint8Array(9000))).catch(
         (error) => console.log(error instanceof BackupError, error.code, typeof FaultyTarget));`,
    );
    expect(run(process.execPath, 'program.cjs').trim()).toBe('true OUT_OF_RANGE function');
  });

  test('does not load minio unless `./s3` is asked for', () => {
    writeFileSync(
      join(project, 'graph.mjs'),
      `import { registerHooks } from 'node:module';
       const seen = [];
       registerHooks({ resolve: (specifier, context, next) => { seen.push(specifier); return next(specifier, context); } });
       await import('cow-cloud-backup'); await import('cow-cloud-backup/testing');
       const before = seen.includes('minio');
       await import('cow-cloud-backup/s3');
       console.log(before, seen.includes('cow-cloud-backup/s3'));`,
    );
    expect(run(process.execPath, 'graph.mjs').trim()).toBe('false true');
  });
});
