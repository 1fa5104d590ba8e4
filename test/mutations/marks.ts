import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import type { Mutation, Replacement } from './mutation.ts';

/** A marked piece of the source. */
export interface Mark {
  readonly name: string;
  /** A path below the root, with `/`. */
  readonly file: string;
  readonly start: number;
  readonly end: number;
  readonly code: string;
}

const COMMENT = /^[ \t]*\/\/ @mutation[ \t]+(\S+)[ \t]*$/gm;

/** All marks of the sources below `root`, by name. */
export function marksBelow(root: string): Map<string, Mark> {
  const marks = new Map<string, Mark>();
  for (const path of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).sort()) {
    if (!path.endsWith('.ts')) continue;
    const file = `src/${path.replaceAll('\\', '/')}`;
    for (const mark of marksIn(readFileSync(join(root, file), 'utf8'), file)) {
      const other = marks.get(mark.name);
      if (other !== undefined) throw new Error(`${mark.name} is marked in ${other.file} and in ${file}`);
      marks.set(mark.name, mark);
    }
  }
  return marks;
}

/** The marks of one source text. */
export function marksIn(text: string, file: string): Mark[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
  return [...text.matchAll(COMMENT)].map((found) => {
    const name = found[1] as string;
    const node = outermostBehind(source, found.index);
    if (node === undefined) throw new Error(`${file}: nothing begins behind the mark ${name}`);
    return { name, file, start: node.getStart(source), end: node.end, code: node.getText(source) };
  });
}

/** The largest node that has the comment at `position` among the comments before it. */
function outermostBehind(source: ts.SourceFile, position: number): ts.Node | undefined {
  const visit = (node: ts.Node): ts.Node | undefined => {
    if (position < node.pos || position >= node.end) return undefined;
    if (position < node.getStart(source)) return node.kind === ts.SyntaxKind.EndOfFileToken ? undefined : node;
    return ts.forEachChild(node, visit);
  };
  return ts.forEachChild(source, visit);
}

/** The files that a mutation changes, with their texts when it is applied. */
export function mutatedFiles(
  { edits, what }: Mutation,
  marks: ReadonlyMap<string, Mark>,
  read: (file: string) => string,
): Map<string, string> {
  const markOf = (name: string): Mark => {
    const mark = marks.get(name);
    if (mark === undefined) throw new Error(`nothing is marked ${name}, which is needed for: ${what}`);
    return mark;
  };
  const texts = new Map<string, string>();
  const backwards = Object.entries(edits)
    .map(([name, replacement]) => ({ mark: markOf(name), replacement }))
    .sort((a, b) => a.mark.file.localeCompare(b.mark.file) || b.mark.start - a.mark.start);
  let after: Mark | undefined;
  for (const { mark, replacement } of backwards) {
    if (after?.file === mark.file && mark.end > after.start) throw new Error(`two edits overlap: ${what}`);
    after = mark;
    const text = texts.get(mark.file) ?? read(mark.file);
    const code = codeOf(replacement, mark, (name) => markOf(name).code);
    if (code === mark.code) throw new Error(`${mark.name} stays as it is: ${what}`);
    texts.set(mark.file, text.slice(0, mark.start) + code + text.slice(mark.end));
  }
  return texts;
}

function codeOf(replacement: Replacement, mark: Mark, codeAt: (name: string) => string): string {
  return typeof replacement === 'string' ? replacement : replacement(mark.code, codeAt);
}
