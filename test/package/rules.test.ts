import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { RULES } from '../model/rules.ts';
import { MUTATIONS } from '../mutations/mutations.ts';

/** `docs/PROTOCOL.md` defines what source and tests cite, and names what holds it. */
const root = join(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'docs/PROTOCOL.md'), 'utf8');

interface Section {
  readonly id: string;
  readonly text: string;
  /** What stands behind `- **Tests:**` and its like, with its continuation lines. */
  item(name: string): string | undefined;
}

const sections: readonly Section[] = page
  .split(/^##+ /m)
  .filter((part) => /^(?:[RPCL]\d{1,2} |Names$)/m.test(part.split('\n', 1)[0] as string))
  .map((text) => ({
    id: text.split(/\s/, 1)[0] as string,
    text,
    item: (name) => new RegExp(`^- \\*\\*${name}:\\*\\* ([^]*?)(?=^- |^$|(?![^]))`, 'm').exec(text)?.[1]?.trim(),
  }));

/** The part of a path or name that is written as code. */
const codeIn = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code as string);
const isNone = (text: string) => /^none: \S.{30,}/s.test(text);
const ids = new Set(sections.map(({ id }) => id));
const byId = (id: string) => sections.find((section) => section.id === id);

/** TypeScript and Markdown below `src/` and `test/`. This file speaks of rules without citing them. */
const files = ['src', 'test'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|md)$/.test(file) && !file.endsWith('rules.test.ts'))
    .map((file) => `${folder}/${file}`),
);
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const citing = (pattern: RegExp) =>
  files.flatMap((file) => [...read(file).matchAll(pattern)].map(([, rule]) => ({ file, rule: rule as string })));

describe('every rule that is cited', () => {
  test('is defined in docs/PROTOCOL.md', () => {
    const cited = citing(/(?<![\w-])([RPCL]\d{1,2})(?![\w-])/g);
    expect(cited.length).toBeGreaterThan(200);
    expect(cited.filter(({ rule }) => !ids.has(rule)).map(({ file, rule }) => `${file} cites ${rule}`)).toEqual([]);
  });

  test('by the name of a part is a switch of the model', () => {
    const cited = citing(/(?<![\w-])([PCL]\d{1,2}\.[a-z][a-zA-Z]*)\b/g);
    const unknown = cited.filter(({ rule }) => !Object.hasOwn(RULES, rule));
    expect(unknown.map(({ file, rule }) => `${file} cites ${rule}`)).toEqual([]);
  });

  test('of the invariants of the model is defined in its README', () => {
    const readme = read('test/model/README.md');
    const unknown = citing(/(?<![\w-])(I\d)(?=: | \w+ |[,)])/g).filter(({ rule }) => !readme.includes(`**${rule}**`));
    expect(unknown).toEqual([]);
  });
});

/** The crash protocol was explored before there was code. A rule of it has tests and mutations from when source cites it. */
const isInSource = (id: string) =>
  files.some((file) => file.startsWith('src/') && new RegExp(`(?<![\\w-])${id}(?![\\w-])`).test(read(file)));
const kept = sections.filter(({ id }) => !id.startsWith('C') || isInSource(id));

describe('docs/PROTOCOL.md', () => {
  test('defines each rule once, and leaves no number out but R12', () => {
    const numbered = (letter: string, count: number) =>
      Array.from({ length: count }, (_, index) => `${letter}${index + 1}`);
    const explored = [...numbered('L', 13), 'L20'];
    const volume = numbered('R', 13).filter((id) => id !== 'R12');
    const expected = [...volume, 'Names', ...numbered('P', 13), ...explored, ...numbered('C', 22)];
    expect(sections.map(({ id }) => id)).toEqual(expected);
  });

  test.each(sections.map((section) => [section.id, section] as const))(
    '%s: says why, and what its absence gives',
    (_, { text }) => {
      expect(text).toMatch(/\*\*Why\.\*\* \S/);
      expect(text).toMatch(/\*\*Without it[.:]\*\*\s+\S/);
    },
  );

  test.each(kept.map((section) => [section.id, section] as const))(
    '%s: names tests that are there and cite it',
    (id, section) => {
      const tests = codeIn(section.item('Tests') ?? '');
      expect(tests.length).toBeGreaterThan(0);
      expect(tests.filter((file) => !file.startsWith('test/') || !existsSync(join(root, file)))).toEqual([]);
      const name = new RegExp(`(?<![\\w-])${id === 'Names' ? 'names' : id}(?![\\w-])`);
      expect(tests.some((file) => name.test(read(file)))).toBe(true);
    },
  );

  const marks = new Set(MUTATIONS.flatMap(({ edits }) => Object.keys(edits)));

  test.each(kept.map((section) => [section.id, section] as const))(
    '%s: names mutations that are there, or says why there is none',
    (_, section) => {
      const item = section.item('Mutations') ?? '';
      if (isNone(item)) return;
      const named = codeIn(item);
      expect(named.length).toBeGreaterThan(0);
      expect(named.filter((mark) => !marks.has(mark))).toEqual([]);
    },
  );

  test('has each mutation at its rule, or at the decision whose number it has', () => {
    const [, others = ''] = page.split(/^## Rules that have a decision.*$/m);
    const missing = MUTATIONS.flatMap(({ rule, edits }) => {
      const where =
        byId(rule)?.item('Mutations') ?? `${sections.map((section) => section.item('Mutations')).join('\n')}${others}`;
      return Object.keys(edits)
        .filter((mark) => !codeIn(where).includes(mark))
        .map((mark) => `${rule}: ${mark}`);
    });
    expect(missing).toEqual([]);
  });

  test.each(sections.filter(({ id }) => !id.startsWith('R')).map((section) => [section.id, section] as const))(
    '%s: names the switches of the model that take it out, each with its trace',
    (id, section) => {
      const switches = Object.keys(RULES).filter((rule) => rule.split('.', 1)[0] === (id === 'Names' ? 'names' : id));
      expect(switches.length).toBeGreaterThan(0);
      expect(codeIn(section.item('Model') ?? '').toSorted()).toEqual(switches.toSorted());
      const rows = [...section.text.matchAll(/^\| `([^`]+)` *\|/gm)].map(([, name]) => name);
      expect(rows.toSorted()).toEqual(switches.toSorted());
    },
  );
});
