import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const TESTS = join(import.meta.dirname, '..');
const texts = readdirSync(TESTS, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts') && path !== join('package', 'chance.test.ts'))
  .map((path) => ({ path: path.replaceAll('\\', '/'), text: readFileSync(join(TESTS, path), 'utf8') }));

/** Names of buckets and ports, which other runs on the same machine must not have; and the seeds of soaks. */
const UNIQUE = ['support/s3.ts', 'support/services.ts', 'soaks/run.ts'];

test('all chance in the tests comes from support/randomness.ts, whose seed is fixed', () => {
  const chance = /Math\.random\(|\bfreshSeed\(|import \{[^}]*\brandom(Bytes|Int|FillSync)\b[^}]*\} from 'node:crypto'/;
  const wrong = texts.filter(({ path, text }) => chance.test(text) && !UNIQUE.includes(path)).map(({ path }) => path);
  expect(wrong).toEqual(['support/randomness.ts']);
});

test('every property has the parameters that give it the seed', () => {
  const wrong = texts.filter(({ text }) => {
    const asserted = text.match(/fc\.(assert|check|sample)\(/g)?.length ?? 0;
    return asserted > (text.match(/(?<![.\w])property\(/g)?.length ?? 0);
  });
  expect(wrong.map(({ path }) => path)).toEqual([]);
});

test('the environment is asked for COW_TEST_ variables only', () => {
  const asked = texts.flatMap(({ path, text }) =>
    [...text.matchAll(/\benv\??\.COW_(?!TEST_)\w+/g)].map(([name]) => `${path}: ${name}`),
  );
  expect(asked).toEqual([]);
});

test('no pattern stands where it compares nothing: to toMatchObject, a regular expression is an object without keys', () => {
  const idle = /toMatchObject\([^;]*?\b\w+: \/(?![/*)])/s;
  const wrong = texts.filter(({ text }) => text.split(';').some((statement) => idle.test(`${statement};`)));
  expect(wrong.map(({ path }) => path)).toEqual([]);
});
