import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { marksBelow, marksIn, mutatedFiles } from './marks.ts';
import type { Mutation } from './mutation.ts';
import { MUTATIONS } from './mutations.ts';

const root = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const marks = marksBelow(root);

describe('a mark', () => {
  const text = `
    // @mutation whole-chain
    a.b().c(1); // behind it
    f({
      // @mutation property
      name: value,
      other: 1,
    });
    if (x) {
      // Why this is so.
      // @mutation inner
      for (const one of all) {
        // @mutation innermost
        return one;
      }
    }`;

  test('marks the statement or property that begins behind it', () => {
    expect(marksIn(text, 'a.ts').map(({ name, code }) => [name, code.replace(/\s+/g, ' ')])).toEqual([
      ['whole-chain', 'a.b().c(1);'],
      ['property', 'name: value'],
      ['inner', 'for (const one of all) { // @mutation innermost return one; }'],
      ['innermost', 'return one;'],
    ]);
  });

  test('behind which nothing begins is an error', () => {
    expect(() => marksIn('f();\n// @mutation nothing\n', 'a.ts')).toThrow('nothing begins behind the mark nothing');
    expect(() => marksIn('f(() => {\n  g();\n  // @mutation nothing\n});\n', 'a.ts')).toThrow(
      'nothing begins behind the mark nothing',
    );
  });

  const known = new Map(marksIn(text, 'a.ts').map((mark) => [mark.name, mark]));
  const mutation = (edits: Mutation['edits']): Mutation => ({
    rule: 'X',
    what: 'example',
    edits,
    tests: { files: [], names: '' },
  });
  const apply = (edits: Mutation['edits']) => mutatedFiles(mutation(edits), known, () => text).get('a.ts');

  test('is replaced alone, with the help of other marks', () => {
    expect(apply({ innermost: '', 'whole-chain': (own, codeAt) => `${codeAt('innermost')} ${own}` })).toBe(
      text.replace('a.b().c(1);', 'return one; a.b().c(1);').replace('        return one;', '        '),
    );
  });

  test('can neither be replaced inside another one nor by itself', () => {
    expect(() => apply({ innermost: '', inner: '' })).toThrow('overlap');
    expect(() => apply({ innermost: (own) => own.replace('two', '') })).toThrow('stays as it is');
    expect(() => apply({ unknown: '' })).toThrow('nothing is marked unknown');
  });
});

describe('the table of mutations', () => {
  test('has a mutation for each mark of the source', () => {
    const used = new Set(MUTATIONS.flatMap(({ edits }) => Object.keys(edits)));
    expect([...marks.keys()].filter((name) => !used.has(name))).toEqual([]);
  });

  test('names test files that are there', () => {
    expect(MUTATIONS.flatMap(({ tests }) => tests.files).filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(MUTATIONS.filter(({ tests }) => tests.files.length === 0 || tests.names === '')).toEqual([]);
  });

  // A name that is gone would fail every test, and pass for a rule that is missed.
  test('holds only what applies and still compiles', () => {
    const compile = compiler();
    const wrong = batches().flatMap((batch) => {
      const errors = compile(new Map(batch.flatMap(({ texts }) => [...texts])));
      return batch.flatMap(({ what, texts }) =>
        [...texts.keys()].flatMap((file) => (errors.get(file) ?? []).map((error) => `${what}: ${error}`)),
      );
    });
    expect(wrong).toEqual([]);
    expect(compile(new Map([['src/index.ts', 'const one: string = 1;']])).get('src/index.ts')).toEqual([
      "Type 'number' is not assignable to type 'string'.",
    ]);
  });
});

interface Mutated {
  readonly what: string;
  readonly texts: ReadonlyMap<string, string>;
}

/** All mutations, in as few programs as there can be: each compiles together with others of other files. */
function batches(): Mutated[][] {
  const all: { readonly files: Set<string>; readonly mutated: Mutated[] }[] = [];
  for (const mutation of MUTATIONS) {
    const texts = mutatedFiles(mutation, marks, read);
    const files = [...texts.keys()];
    const mutated = { what: mutation.what, texts };
    const batch = all.find((each) => files.every((file) => !each.files.has(file)));
    if (batch === undefined) all.push({ files: new Set(files), mutated: [mutated] });
    else {
      for (const file of files) batch.files.add(file);
      batch.mutated.push(mutated);
    }
  }
  return all.map(({ mutated }) => mutated);
}

/** Compiles the project with other texts of some files, and lists what is wrong with each of them. */
function compiler(): (texts: ReadonlyMap<string, string>) => Map<string, string[]> {
  const config = ts.getParsedCommandLineOfConfigFile(
    join(root, 'tsconfig.json'),
    { noUnusedLocals: false, noUnusedParameters: false },
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: ({ messageText }) => expect.fail(String(messageText)) },
  );
  const options = config?.options ?? {};
  const changed = new Map<string, { text: string; version: number }>();
  let version = 0;
  const service = ts.createLanguageService({
    fileExists: ts.sys.fileExists,
    readFile: ts.sys.readFile,
    getCompilationSettings: () => options,
    getScriptFileNames: () => [join(root, 'src/index.ts'), ...changed.keys()],
    getScriptVersion: (path) => String(changed.get(path)?.version ?? 0),
    getScriptSnapshot: (path) => {
      const text = changed.get(path)?.text ?? ts.sys.readFile(path);
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
    },
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    getCurrentDirectory: () => root,
  });
  return (texts) => {
    version++;
    for (const path of changed.keys()) changed.set(path, { text: read(relative(root, path)), version });
    for (const [file, text] of texts) changed.set(join(root, file), { text, version });
    const errorsOf = (file: string) => {
      const path = join(root, file);
      const errors = [...service.getSyntacticDiagnostics(path), ...service.getSemanticDiagnostics(path)];
      return errors.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
    };
    return new Map([...texts.keys()].map((file) => [file, errorsOf(file)]));
  };
}
