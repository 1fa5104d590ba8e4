import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { MUTATIONS, type Mutation } from './mutations.ts';

/**
 * Takes the protocol's rules out of a copy of the source, one at a time, and runs the tests that name their traces.
 * A rule whose absence no test notices is an error. Arguments: rules to try, e.g. `R4`; none for all.
 */
const root = join(import.meta.dirname, '../..');
const chosen = process.argv.slice(2);
const copy = mkdtempSync(join(tmpdir(), 'mutations-'));
let unnoticed = 0;
try {
  for (const folder of ['src', 'test', 'package.json', 'tsconfig.json']) {
    cpSync(join(root, folder), join(copy, folder), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  writeFileSync(join(copy, 'vitest.config.ts'), 'export default { test: { include: ["test/volume/*.test.ts"] } };\n');
  if (!passes('R')) throw new Error('the protocol tests fail without any mutation');
  for (const mutation of MUTATIONS) {
    if (chosen.length > 0 && !chosen.includes(mutation.rule)) continue;
    const isNoticed = mutated(mutation, () => !passes(mutation.test));
    if (!isNoticed) unnoticed++;
    console.log(`${isNoticed ? 'noticed  ' : 'UNNOTICED'} ${mutation.rule.padEnd(3)} ${mutation.what}`);
  }
} finally {
  rmSync(copy, { recursive: true });
}
console.log(unnoticed === 0 ? 'every rule that was taken out was missed' : `${unnoticed} went unnoticed`);
process.exitCode = unnoticed === 0 ? 0 : 1;

function mutated<T>({ file, find, replace, what }: Mutation, work: () => T): T {
  const path = join(copy, file);
  const source = readFileSync(path, 'utf8');
  if (source.split(find).length !== 2) throw new Error(`does not apply: ${what}`);
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
  try {
    return work();
  } finally {
    writeFileSync(path, source);
  }
}

function passes(testName: string): boolean {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const files = ['protocol', 'model', 'write-behind'].map((name) => `test/volume/${name}.test.ts`);
  const run = spawnSync(
    process.execPath,
    [vitest, 'run', '--root', copy, '-t', testName, '--testTimeout=10000', ...files],
    {
      env: { ...process.env, COW_HISTORIES: '300', COW_NO_SHRINK: '1' },
      encoding: 'utf8',
    },
  );
  const ran = /Tests\s+.*?(\d+) (passed|failed)/.test(stripVTControlCharacters(run.stdout));
  if (!ran) throw new Error(`no test matches ${testName}:\n${run.stdout}${run.stderr}`);
  return run.status === 0;
}
