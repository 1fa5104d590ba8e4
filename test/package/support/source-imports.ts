import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** The folder of the sources. */
export const SOURCES = fileURLToPath(new URL('../../../src/', import.meta.url));

/** One import, re-export, `import()`, `import('...').Type` or `new URL('...', import.meta.url)`. */
export interface ImportOf {
  /** What is imported: a path below the sources with `/`, such as `device/span.ts`, or a package or `node:` name. */
  readonly to: string;
  readonly kind: 'source' | 'package';
}

/** All source files, as paths below the folder, with what each imports. */
export function sourceImports(): Map<string, ImportOf[]> {
  const files = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'));
  return new Map(files.map((path) => [path.replaceAll('\\', '/'), importsOf(join(SOURCES, path))]));
}

function importsOf(file: string): ImportOf[] {
  return specifiersIn(readFileSync(file, 'utf8'), file).map((specifier) => {
    if (!specifier.startsWith('.')) return { to: packageOf(specifier), kind: 'package' };
    const path = relative(SOURCES, join(dirname(file), specifier)).replaceAll('\\', '/');
    return { to: path, kind: 'source' };
  });
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

/** What a piece of TypeScript imports, by its syntax tree; imports of types too. */
export function specifiersIn(text: string, name = 'file.ts'): string[] {
  const found: string[] = [];
  const add = (specifier: ts.Node | undefined) => {
    if (specifier === undefined) return;
    if (!ts.isStringLiteralLike(specifier)) throw new Error(`${name} imports what is no constant`);
    found.push(specifier.text);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier);
    } else if (ts.isImportTypeNode(node)) {
      if (ts.isLiteralTypeNode(node.argument)) add(node.argument.literal);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0]);
    } else if (ts.isNewExpression(node) && node.arguments?.[1]?.getText() === 'import.meta.url') {
      for (const text of literalsIn(node.arguments[0])) {
        if (text.text.endsWith('.ts')) add(text); // A worker's program; its built form is not a source.
      }
    } else if (ts.isExternalModuleReference(node)) {
      add(node.expression);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(name, text, ts.ScriptTarget.ESNext, true));
  return found;
}

function literalsIn(node: ts.Node | undefined): ts.StringLiteralLike[] {
  if (node === undefined) return [];
  if (ts.isStringLiteralLike(node)) return [node];
  const found: ts.StringLiteralLike[] = [];
  ts.forEachChild(node, (child) => {
    found.push(...literalsIn(child));
  });
  return found;
}
