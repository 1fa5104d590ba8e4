import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { KilledPlan, Word } from './killed-words.ts';

const PROGRAM = fileURLToPath(new URL('./killed-program.ts', import.meta.url));
/** A program that kills itself gets so long to reach the call. */
const PATIENCE_MS = 20_000;

/** Runs the program, kills it `afterMs` after it has opened the repository (or where it does so itself), and resolves with what it said. */
export async function runAndKill(plan: KilledPlan, afterMs: number): Promise<Word[]> {
  const flags = ['--experimental-strip-types', '--disable-warning=ExperimentalWarning'];
  const child = spawn(process.execPath, [...flags, PROGRAM, JSON.stringify(plan)], {
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = () => child.kill('SIGKILL');
  const ended = once(child, 'close');
  let timer = setTimeout(kill, PATIENCE_MS);
  let printed = '';
  let complaints = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (printed === '' && plan.calls === undefined) {
      clearTimeout(timer);
      timer = setTimeout(kill, afterMs);
    }
    printed += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  const [code, signal] = await ended;
  clearTimeout(timer);
  if (signal !== 'SIGKILL') throw new Error(`the program ended by itself with ${code ?? signal}: ${complaints}`);
  // A line that was cut off was never said.
  return printed
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Word);
}
