import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { testSeed, times, withinMs } from '../support/randomness.ts';
import type { HostilePlan, HostileWord } from './support/hostile-words.ts';
import type { Flavour } from './support/hostile-world.ts';

/**
 * Objects of a repository are replaced by hostile ones: damaged, exchanged, of another repository, larger than they are said
 * to be, MessagePack and zstd that cost more than they take up, and in plain repositories well-formed ones that no writer
 * would write. Everything that can be done with a repository is done then, in a process of its own: it settles, with a
 * result that is right or an error that has a code, within bounds of memory and requests; and once the attack is undone,
 * nothing is missing.
 */

const ATTACKS = times(2);
/** A new process after so many: what one of them leaves in memory is not told from what the next one takes. */
const ATTACKS_A_PROCESS = 50;
const MOST_GROWN_BYTES = 300 * 2 ** 20;
/** Some 20,000 objects may be listed, and each of a few thousand strays be looked at now and then. */
const MOST_REQUESTS = 100_000;
/** Of one attack, before the program counts as hanging in one step; on a busy machine. */
const PATIENCE_MS = 180_000;
const PROGRAM = fileURLToPath(new URL('./support/hostile-program.ts', import.meta.url));

const FLAVOURS: readonly (Flavour & { readonly name: string })[] = [
  { name: 'plain, shared', encrypted: false, singleWriter: false },
  { name: 'plain, for a single writer', encrypted: false, singleWriter: true },
  { name: 'encrypted, shared', encrypted: true, singleWriter: false },
  { name: 'encrypted, for a single writer', encrypted: true, singleWriter: true },
];

/** Runs the program, and resolves with what it said, and why it ended if not by itself. */
async function run(plan: HostilePlan): Promise<{ words: HostileWord[]; end: string | undefined }> {
  const flags = ['--expose-gc', '--experimental-strip-types', '--disable-warning=ExperimentalWarning'];
  const child = spawn(process.execPath, [...flags, PROGRAM, JSON.stringify(plan)], {
    env: { ...process.env, NODE_OPTIONS: '', NODE_NO_WARNINGS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const words: HostileWord[] = [];
  let isHanging = false;
  const give = () => {
    isHanging = true;
    child.kill('SIGKILL');
  };
  let timer = setTimeout(give, PATIENCE_MS);
  let printed = '';
  let complaints = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    clearTimeout(timer);
    timer = setTimeout(give, PATIENCE_MS);
    const lines = (printed + text).split('\n');
    printed = lines.pop() as string;
    // The seed of a soak is printed there as well.
    for (const line of lines) if (line.startsWith('{')) words.push(JSON.parse(line) as HostileWord);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  const code = await new Promise((resolve) => child.on('close', (status, signal) => resolve(status ?? signal)));
  clearTimeout(timer);
  if (code === 0) return { words, end: undefined };
  return { words, end: isHanging ? 'it hangs' : `it ended with ${code}: ${complaints.slice(-4000)}` };
}

/** What was not as it should be, attack by attack. */
function faultsOf(plan: HostilePlan, words: readonly HostileWord[], end: string | undefined): string[] {
  const found: string[] = [];
  let name = 'before the first attack';
  let last = plan.from - 1;
  for (const word of words) {
    if ('begins' in word) {
      name = word.name;
      last = word.begins;
      continue;
    }
    const at = `attack ${word.ends} (${name})`;
    found.push(...word.faults.map((fault) => `${at}: ${fault}`));
    if (word.grownBytes > MOST_GROWN_BYTES) found.push(`${at}: ${Math.round(word.grownBytes / 2 ** 20)} MiB of memory`);
    if (word.requests > MOST_REQUESTS) found.push(`${at}: ${word.requests} requests`);
  }
  if (end !== undefined) found.push(`attack ${last} (${name}): ${end}`);
  return found;
}

describe.each(FLAVOURS)('a repository that is $name', ({ encrypted, singleWriter }) => {
  test(
    'stands hostile objects',
    async () => {
      const seed = testSeed();
      const tally = new Map<string, number>();
      const faults: string[] = [];
      let ended = 0;
      for (let from = 0; from < ATTACKS; from += ATTACKS_A_PROCESS) {
        const plan = {
          flavour: { encrypted, singleWriter },
          seed,
          from,
          count: Math.min(ATTACKS_A_PROCESS, ATTACKS - from),
        };
        const { words, end } = await run(plan);
        faults.push(...faultsOf(plan, words, end));
        for (const word of words) {
          if (!('ends' in word)) continue;
          ended++;
          for (const outcome of Object.values(word.outcomes)) tally.set(outcome, (tally.get(outcome) ?? 0) + 1);
        }
      }
      console.log(`${ended} attacks`, Object.fromEntries(tally));
      expect(faults, `with COW_TEST_SEED=${seed}`).toEqual([]);
      expect(ended).toBe(ATTACKS);
      expect(tally.get('ok') ?? 0).toBeGreaterThan(0);
    },
    withinMs(300_000),
  );
});
