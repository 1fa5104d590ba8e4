import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, expect, test } from 'vitest';

/**
 * The README's first example, and those without a repository, on the oldest Node that `engines` allows, without any optional package. That Node comes from
 * the registry (120 MB), so this is for `.ci/run`; `COW_TEST_NODE_FLOOR` names one that is there already.
 */
const root = join(import.meta.dirname, '../..');
const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { engines: { node: string } };
const version = `${engines.node.replace('>=', '')}.0`;
const given = process.env.COW_TEST_NODE_FLOOR;
const isSkipped = !process.env.CI && !given;
let project: string;

const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: 'pipe' });
const floor = () => given ?? join(project, 'node_modules/node/bin/node');

/** Node 22 does not know the syntax of `await using`: compilers translate it. */
function compiled(text: string): string {
  const compilerOptions = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext };
  return ts.transpileModule(text, { compilerOptions }).outputText;
}

beforeAll(() => {
  if (isSkipped) return;
  project = mkdtempSync(join(tmpdir(), 'node-floor-'));
  const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', project];
  execFileSync('npm', pack, { cwd: root, stdio: 'ignore' });
  const [tarball] = readdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'floor', private: true, type: 'module' }));
  const node = given === undefined ? [`node@${version}`] : [];
  run('npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', '--silent', `./${tarball}`, ...node);
}, 600_000);

afterAll(() => {
  if (!isSkipped) rmSync(project, { recursive: true, force: true });
});

test.skipIf(isSkipped)('the first example backs up and restores on the oldest Node', () => {
  expect(run(floor(), '--version').trim()).toBe(`v${version}`);
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const sample = /```ts\n(.*?)```/s.exec(readme)?.[1] as string;
  const image = Buffer.alloc(5 * 65536 + 1000, 'content');
  writeFileSync(join(project, 'disk.img'), image);
  writeFileSync(join(project, 'first.mjs'), compiled(sample));
  run(floor(), 'first.mjs');
  expect(readFileSync(join(project, 'restored.img')).equals(image)).toBe(true);
});

test.skipIf(isSkipped).each(['compose-your-own-pipeline', 'blocks-as-sqlite-rows', 'send-to-http-endpoint'])(
  'examples/%s.ts backs up and restores on the oldest Node',
  (name) => {
    const text = readFileSync(join(root, `examples/${name}.ts`), 'utf8');
    writeFileSync(join(project, `${name}.mjs`), compiled(text));
    const printed = run(floor(), `${name}.mjs`);
    expect(printed).toMatch(/ is equal\.\n$/);
    expect(printed).not.toContain('DIFFERENT');
  },
);
