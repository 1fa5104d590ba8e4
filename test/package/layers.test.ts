import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SOURCES, sourceImports, specifiersIn } from './support/source-imports.ts';

const BELOW_REPOSITORY = [
  ...['pipeline', 'common', 'device', 'state', 'volume', 'volume/epochs', 'volume/state-directory'],
  ...['targets', 'targets/decorators'],
];

/**
 * The layers inside `repository/`, the lowest first: a folder imports from those before it. `docs/ARCHITECTURE.md` says
 * what each is for.
 */
const REPOSITORY_LAYERS = [
  'format',
  'crypto',
  'packs',
  'packs/seal-pool',
  'map',
  'log/entries',
  'log/pages',
  'log',
  'context',
  'backup',
  'open',
  'restore',
  'prune',
  'retention',
  'verify',
].map((name) => `repository/${name}`);

/** Which folders the files of a folder may import from, in addition to their own: `docs/ARCHITECTURE.md`. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  common: [],
  state: ['common'],
  device: ['common'],
  'volume/epochs': ['common', 'state'],
  'volume/state-directory': ['common', 'device', 'volume/epochs'],
  volume: ['common', 'device', 'state', 'volume/epochs', 'volume/state-directory'],
  targets: ['common'],
  'targets/file': ['common', 'targets'],
  'targets/s3': ['common', 'targets'],
  'targets/decorators': ['common', 'targets', 'targets/file'],
  pipeline: ['common', 'device', 'state', 'volume', 'volume/epochs'],
  testing: ['common', 'device', 'targets', 'targets/decorators'],
  repository: [...BELOW_REPOSITORY, ...REPOSITORY_LAYERS],
  ...Object.fromEntries(
    REPOSITORY_LAYERS.map((layer, at) => [layer, [...BELOW_REPOSITORY, ...REPOSITORY_LAYERS.slice(0, at)]]),
  ),
  // What the format and the keys are needs neither a device nor a store; what reads and writes them needs no volume.
  'repository/format': ['common'],
  'repository/crypto': ['common', 'repository/format'],
  'repository/packs': ['common', 'targets', 'targets/decorators', 'repository/format', 'repository/crypto'],
  'repository/map': ['common', 'repository/format'],
  'repository/log/entries': ['common', 'repository/format'],
  'repository/log/pages': ['common', 'targets', 'repository/format'],
  'repository/log': [
    ...['common', 'targets', 'targets/decorators', 'repository/format'],
    ...['repository/log/entries', 'repository/log/pages'],
  ],
};

const files = sourceImports();
const manifest = JSON.parse(readFileSync(join(SOURCES, '..', 'package.json'), 'utf8')) as {
  exports: Record<string, string | { default: string }>;
  dependencies: Record<string, string>;
};

/** The files that users import, by what `package.json` exports. */
const entries = Object.values(manifest.exports).flatMap((target) =>
  typeof target === 'string' ? [] : [target.default.replace('./dist/', '').replace(/\.js$/, '.ts')],
);

const folderOf = (file: string) => (file.includes('/') ? file.slice(0, file.lastIndexOf('/')) : 'entry');
const sourcesOf = (file: string) => (files.get(file) ?? []).filter(({ kind }) => kind === 'source').map(({ to }) => to);

/** `start` and everything that it imports, however far away. */
function reachableFrom(start: readonly string[]): Set<string> {
  const reached = new Set(start);
  for (const file of reached) for (const next of sourcesOf(file)) reached.add(next);
  return reached;
}

describe('the imports of the sources', () => {
  test('are read from the syntax tree, of every form', () => {
    const text = `
      import a from './a.ts'; import type { B } from './b.ts'; import { type C } from './c.ts'; import './d.ts';
      export * from './e.ts'; export type { F } from './f.ts'; const g = import('./g.ts');
      type H = import('./h.ts').H; // import './not.ts'
      const j = new Worker(new URL(built ? './j.js' : './j.ts', import.meta.url)); const k = new URL('https://host', base);
      const text = "import './nor.ts'"; export const i = 1;`;
    expect(specifiersIn(text)).toEqual([
      './a.ts',
      './b.ts',
      './c.ts',
      './d.ts',
      './e.ts',
      './f.ts',
      './g.ts',
      './h.ts',
      './j.ts',
    ]);
    expect(() => specifiersIn('import(name)')).toThrow('no constant');
  });

  test('are of files that are there, entry points among them', () => {
    expect(entries.length).toBeGreaterThan(0);
    for (const entry of entries) expect(files.has(entry), entry).toBe(true);
    const missing = [...files].flatMap(([file, list]) =>
      list
        .filter(({ kind, to }) => kind === 'source' && !existsSync(join(SOURCES, to)))
        .map(({ to }) => `${file}: ${to}`),
    );
    expect(missing).toEqual([]);
  });

  test('go down through the layers only', () => {
    const wrong: string[] = [];
    for (const file of files.keys()) {
      const folder = folderOf(file);
      if (folder === 'entry') continue;
      const allowed = ALLOWED[folder];
      if (allowed === undefined) throw new Error(`${folder} is a layer that nobody has placed: say what it may import`);
      for (const to of sourcesOf(file)) {
        if (folderOf(to) !== folder && !allowed.includes(folderOf(to))) wrong.push(`${file} imports ${to}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('name only Node’s own modules and declared dependencies', () => {
    const known = (name: string) => name.startsWith('node:') || name in manifest.dependencies;
    const wrong = [...files].flatMap(([file, list]) =>
      list.filter(({ kind, to }) => kind === 'package' && !known(to)).map(({ to }) => `${file} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  test('do no input or output in the format: it computes, and nothing else', () => {
    const computing = ['node:crypto', 'node:util', 'node:zlib', 'msgpackr'];
    const wrong = [...files]
      .filter(([file]) => folderOf(file) === 'repository/format')
      .flatMap(([file, list]) =>
        list
          .filter(({ kind, to }) => kind === 'package' && !computing.includes(to))
          .map(({ to }) => `${file} imports ${to}`),
      );
    expect(wrong).toEqual([]);
  });

  test('reach the target for S3, and the types of its client, from ./s3 only', () => {
    const ofS3 = (reached: ReadonlySet<string>) => [...reached].filter((file) => folderOf(file) === 'targets/s3');
    expect(ofS3(reachableFrom(['s3.ts']))).not.toEqual([]);
    for (const entry of entries.filter((file) => file !== 's3.ts'))
      expect(ofS3(reachableFrom([entry])), entry).toEqual([]);
  });

  test('have no circle, imports of types included', () => {
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      if (done.has(file) || path.includes(file)) return;
      for (const next of sourcesOf(file)) visit(next, [...path, file]);
      done.add(file);
    };
    for (const file of files.keys()) visit(file, []);
    expect(circles).toEqual([]);
  });

  test('reach every file from an entry point: there is no dead one', () => {
    const reached = reachableFrom(entries);
    const dead = [...files.keys()].filter((file) => !reached.has(file));
    expect(dead).toEqual([]);
  });

  test('are of folders of which one file each says what the folder is for', () => {
    const saying = new Map<string, string[]>([...files.keys()].map((file) => [folderOf(file), []]));
    for (const file of files.keys()) {
      const text = readFileSync(join(SOURCES, file), 'utf8');
      if (/^(\/\/| \*) .*\bThis folder\b/m.test(text)) saying.get(folderOf(file))?.push(file);
    }
    saying.delete('entry');
    expect([...saying].filter(([, { length }]) => length !== 1)).toEqual([]);
  });
});
