import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { freshSeed } from '../../src/testing/seeded-random.ts';
import { SOAKS, type Soak } from './soaks.ts';

/**
 * Runs soaks: `run.ts NAME ...`, or all when none is named; `--short` for their short forms. Each run takes a seed that
 * nobody chose and prints the command that replays it; `COW_TEST_SEED` gives one.
 */
const names = process.argv.slice(2).filter((argument) => argument !== '--short');
const isShort = process.argv.includes('--short');
const unknown = names.find((name) => !SOAKS.some((soak) => soak.name === name));
if (unknown !== undefined) throw new Error(`there is no soak ${unknown}; there are ${SOAKS.map(({ name }) => name)}`);

const seed = process.env.COW_TEST_SEED || String(freshSeed());
const failed = SOAKS.filter(({ name }) => names.length === 0 || names.includes(name)).filter((soak) => !passes(soak));
for (const { name } of failed) {
  console.error(`soak:${name} failed; COW_TEST_SEED=${seed} npm run soak:${name}${isShort ? ' -- --short' : ''}`);
}
process.exitCode = failed.length === 0 ? 0 : 1;

function passes({ name, what, files, times, sweepsAll = false }: Soak): boolean {
  const factor = process.env.COW_TEST_TIMES || String(isShort ? times.short : times.full);
  console.log(`\nsoak:${name} with COW_TEST_SEED=${seed} COW_TEST_TIMES=${factor}${isShort ? ', short' : ''}: ${what}`);
  const vitest = join(import.meta.dirname, '../../node_modules/vitest/vitest.mjs');
  const sweep = sweepsAll && !isShort ? { COW_TEST_SWEEP: 'all' } : {};
  const { status } = spawnSync(process.execPath, [vitest, 'run', '--testTimeout', '3600000', ...files], {
    stdio: 'inherit',
    env: { ...process.env, COW_TEST_SEED: seed, COW_TEST_TIMES: factor, ...sweep },
  });
  return status === 0;
}
