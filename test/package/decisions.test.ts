import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const folder = join(root, 'docs/decisions');
const decisions = readdirSync(folder).filter((file) => file.endsWith('.md') && file !== 'README.md');
const read = (file: string) => readFileSync(join(folder, file), 'utf8');

test('docs/decisions/README.md has one line for each decision, and for no other: add yours there', () => {
  const listed = [...read('README.md').matchAll(/^- \[(\d{3})\]\(([^)]+)\): \S.+\.$/gm)];
  expect(decisions.length).toBeGreaterThan(50);
  expect(listed.map(([, , file]) => file).toSorted()).toEqual(decisions.toSorted());
  expect(listed.filter(([, number, file]) => !file?.startsWith(`${number}-`))).toEqual([]);
});

test('a decision begins with its number, which is that of its file and of no other', () => {
  const numbers = decisions.map((file) => file.slice(0, 3));
  expect(numbers.toSorted()).toEqual([...new Set(numbers)].toSorted());
  expect(decisions.filter((file) => !read(file).startsWith(`# ${file.slice(0, 3)} `))).toEqual([]);
});

test('each decision that source, tests and documentation cite is there', () => {
  const numbers = new Set(decisions.map((file) => file.slice(0, 3)));
  const texts = ['src', 'test', 'docs'].flatMap((top) =>
    readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
      .filter((file) => /\.(ts|md)$/.test(file))
      .map((file) => `${top}/${file}`),
  );
  const cited = texts.flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/\bdecisions? (\d{3})(?:(?:, | and | to )(\d{3}))*/gi)].flatMap(
      ([, first, last]) => [first, last].filter((number) => number !== undefined).map((number) => ({ file, number })),
    ),
  );
  expect(cited.length).toBeGreaterThan(20);
  expect(cited.filter(({ number }) => !numbers.has(number))).toEqual([]);
});
