import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { marksBelow, mutatedFiles } from './marks.ts';
import type { Mutation } from './mutation.ts';
import { MUTATIONS } from './mutations.ts';

/**
 * Takes the rules out of a copy of the source, one at a time, and runs the tests that must miss them. A rule that no
 * test misses is an error. Arguments: rules to try, e.g. `R4`; none for all.
 */
const root = join(import.meta.dirname, '../..');
const wanted = process.argv.slice(2);
const mutations = MUTATIONS.filter(({ rule }) => wanted.length === 0 || wanted.includes(rule));
if (mutations.length === 0) throw new Error(`there is no rule ${wanted.join(', ')}`);

const copy = mkdtempSync(join(tmpdir(), 'mutations-'));
let unnoticed = 0;
try {
  for (const path of ['src', 'test', 'package.json', 'tsconfig.json', 'vitest.config.ts']) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  requireSound();
  for (const mutation of mutations) {
    const isNoticed = mutated(mutation, () => !passes(mutation.tests));
    if (!isNoticed) unnoticed++;
    console.log(`${isNoticed ? 'noticed  ' : 'UNNOTICED'} ${mutation.rule.padEnd(3)} ${mutation.what}`);
  }
} finally {
  rmSync(copy, { recursive: true });
}
console.log(unnoticed === 0 ? 'every rule that was taken out was missed' : `${unnoticed} went unnoticed`);
process.exitCode = unnoticed === 0 ? 0 : 1;

/** Without any mutation, all tests that are to fail pass. */
function requireSound(): void {
  const names = new Map<string, Set<string>>();
  for (const { tests } of mutations) {
    const files = tests.files.join(' ');
    names.set(files, (names.get(files) ?? new Set()).add(tests.names));
  }
  for (const [files, all] of names) {
    if (!passes({ files: files.split(' '), names: [...all].join('|') })) {
      throw new Error(`tests in ${files} fail without any mutation`);
    }
  }
}

function mutated<T>(mutation: Mutation, work: () => T): T {
  const files = mutatedFiles(mutation, marksBelow(copy), (file) => readFileSync(join(copy, file), 'utf8'));
  try {
    for (const [file, text] of files) writeFileSync(join(copy, file), text);
    return work();
  } finally {
    for (const file of files.keys()) cpSync(join(root, file), join(copy, file));
  }
}

function passes({ files, names }: Mutation['tests']): boolean {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const run = spawnSync(
    process.execPath,
    [vitest, 'run', '--root', copy, '-t', names, '--testTimeout=10000', ...files],
    {
      env: { ...process.env, COW_TEST_TIMES: '2', COW_TEST_NO_SHRINK: '1' },
      encoding: 'utf8',
    },
  );
  const ran = /Tests\s+.*?(\d+) (passed|failed)/.test(stripVTControlCharacters(run.stdout));
  if (!ran) throw new Error(`no test matches ${names}:\n${run.stdout}${run.stderr}`);
  return run.status === 0;
}
