import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

/** The documents name files and commands that are there. What links lead to is a matter of `readme.test.ts`. */
const root = join(import.meta.dirname, '../..');
const read = (page: string) => readFileSync(join(root, page), 'utf8');
const inFolder = (folder: string) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`);

/** All but the decisions, which speak of the files of their day. */
const PAGES = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  ...inFolder('docs'),
  ...inFolder('docs/guides'),
  'bench/README.md',
  'examples/README.md',
  'test/model/README.md',
];

/** What is written as code and looks like a file or folder of this repository. */
function pathsIn(text: string): string[] {
  const prose = text.replace(/```.*?```/gs, '');
  return [...prose.matchAll(/`([\w.-]+(?:\/[\w.-]+)*\/?)`/g)]
    .map(([, path = '']) => path)
    .filter((path) => /^(src|test|docs|bench|demo|examples|scripts|etc)\/|\.(ts|md)$/.test(path));
}

/** `docs/ARCHITECTURE.md` and the glossary give paths below `src/`; a page may name what stands beside it. */
const isThere = (page: string, path: string) =>
  ['', 'src', dirname(page)].some((base) => existsSync(join(root, base, path)));

test.each(PAGES)('%s names files that are there', (page) => {
  expect(pathsIn(read(page)).filter((path) => !isThere(page, path))).toEqual([]);
});

test('docs/ARCHITECTURE.md names the files of the three paths', () => {
  expect(pathsIn(read('docs/ARCHITECTURE.md')).length).toBeGreaterThan(20);
});

test('the documents name npm scripts that are there', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const named = PAGES.flatMap((page) => [...read(page).matchAll(/npm run (?:--silent )?([\w:-]+\w)/g)]).map(
    ([, name = '']) => name,
  );
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
});
