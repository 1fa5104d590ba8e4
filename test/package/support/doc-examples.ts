import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { root } from './samples.ts';

/** An `@example` of the public TSDoc. */
export interface DocExample {
  /** What it is an example of: `CopyOnWriteVolume`, or `CopyOnWriteVolume.open`. */
  readonly subject: string;
  readonly file: string;
  /** As a program: with the imports that an example leaves out. */
  readonly code: string;
}

/** The entry points, and what a program imports from each. */
const ENTRIES = {
  'index.ts': 'cow-cloud-backup',
  's3.ts': 'cow-cloud-backup/s3',
  'testing.ts': 'cow-cloud-backup/testing',
};
/** What else examples use without importing it. */
const OTHERS = {
  Client: 'minio',
  readFile: 'node:fs/promises',
  subscribe: 'node:diagnostics_channel',
  writeFile: 'node:fs/promises',
};

/** The names that the entry points export, each with its module. */
function exportedNames(): Map<string, string> {
  const names = new Map<string, string>();
  for (const [entry, module] of Object.entries(ENTRIES)) {
    for (const statement of parsed(`src/${entry}`).statements) {
      if (!ts.isExportDeclaration(statement) || statement.exportClause === undefined) continue;
      if (!ts.isNamedExports(statement.exportClause)) continue;
      for (const { name } of statement.exportClause.elements) names.set(name.text, module);
    }
  }
  return names;
}

/** Every `@example` of what the entry points export, with its members. */
export function docExamples(): DocExample[] {
  const exported = exportedNames();
  const modules = new Map([...Object.entries(OTHERS), ...exported]);
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.ts'),
  );
  return files.flatMap((path) =>
    examplesIn(parsed(`src/${path}`))
      .filter(({ subject }) => exported.has(subject.split('.', 1)[0] as string))
      .map(({ subject, code }) => ({ subject, file: `src/${path}`, code: `${importsFor(code, modules)}${code}\n` })),
  );
}

function examplesIn(source: ts.SourceFile): { subject: string; code: string }[] {
  const found: { subject: string; code: string }[] = [];
  const visit = (node: ts.Node, above: string): void => {
    const name = (node as Partial<ts.NamedDeclaration>).name?.getText(source) ?? '';
    const subject = [above, name].filter((part) => part !== '').join('.');
    const isDocumented = !ts.isVariableDeclaration(node) || ts.isVariableStatement(node.parent.parent);
    for (const tag of isDocumented ? ts.getJSDocTags(node) : []) {
      if (tag.tagName.text !== 'example' || found.some((each) => each.subject === subject)) continue;
      const text = ts.getTextOfJSDocComment(tag.comment) ?? '';
      const code = /```ts\n(.*?)```/s.exec(text)?.[1];
      if (code === undefined) throw new Error(`${source.fileName}: the example of ${subject} is no block of ts`);
      found.push({ subject, code });
    }
    ts.forEachChild(node, (child) => visit(child, subject));
  };
  ts.forEachChild(source, (node) => visit(node, ''));
  return found;
}

/** Imports of what an example uses by its name and does not declare. */
function importsFor(code: string, modules: ReadonlyMap<string, string>): string {
  const source = ts.createSourceFile('example.ts', code, ts.ScriptTarget.ESNext, true);
  const used = new Set<string>();
  const declared = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const { parent } = node;
      const isMember = ts.isPropertyAccessExpression(parent) && parent.name === node;
      const isDeclared =
        (ts.isVariableDeclaration(parent) || ts.isBindingElement(parent) || ts.isImportSpecifier(parent)) &&
        parent.name === node;
      if (isDeclared) declared.add(node.text);
      else if (!isMember && !ts.isPropertyAssignment(parent)) used.add(node.text);
      else if (ts.isPropertyAssignment(parent) && parent.initializer === node) used.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return [...used]
    .filter((name) => modules.has(name) && !declared.has(name))
    .map((name) => `import { ${name} } from '${modules.get(name)}';\n`)
    .join('');
}

function parsed(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(join(root, path), 'utf8'), ts.ScriptTarget.ESNext, true);
}
