import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SOAKS } from './soaks.ts';

const root = join(import.meta.dirname, '../..');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };

test('each soak has its command, and each command its soak', () => {
  const commands = Object.entries(scripts).filter(([name]) => name.startsWith('soak'));
  const expected = SOAKS.map(({ name }) => [`soak:${name}`, `node test/soaks/run.ts ${name}`]);
  expect(Object.fromEntries(commands)).toEqual(Object.fromEntries(expected));
});

test('the tests that soaks run are there', () => {
  expect(SOAKS.flatMap(({ files }) => files).filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

test('.ci/run runs the short form of all', () => {
  expect(readFileSync(join(root, '.ci/run'), 'utf8')).toContain('node test/soaks/run.ts --short\n');
});
