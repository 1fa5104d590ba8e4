import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** `npm ci` installs what package-lock.json names, and nothing else, on every platform. */

interface Package {
  readonly version?: string;
  readonly integrity?: string;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
  readonly peerDependenciesMeta?: Record<string, unknown>;
  readonly optionalDependencies?: Record<string, string>;
  readonly engines?: Record<string, string>;
}

const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname, '../..', name), 'utf8'));
const { packages } = read('package-lock.json') as { packages: Record<string, Package> };
const names = new Set(Object.keys(packages).map((path) => path.split('node_modules/').at(-1)));

test('package-lock.json names the optional packages of all platforms', () => {
  const wanted = Object.values(packages).flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies));
  expect(wanted.some((name) => name.includes('darwin'))).toBe(true);
  expect(wanted.some((name) => name.includes('win32'))).toBe(true);
  expect(wanted.filter((name) => !names.has(name))).toEqual([]);
});

test('package-lock.json was made from package.json', () => {
  const manifest = read('package.json') as Package;
  const { '': own } = packages;
  const parts = ['dependencies', 'devDependencies', 'peerDependencies', 'peerDependenciesMeta', 'engines'] as const;
  for (const part of parts) expect(own?.[part], part).toEqual(manifest[part]);
});

test('package-lock.json holds the hash of each package', () => {
  const unchecked = Object.entries(packages).filter(([path, { integrity }]) => path !== '' && integrity === undefined);
  expect(unchecked.map(([path]) => path)).toEqual([]);
});
