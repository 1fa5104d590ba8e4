import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export const GOAL_MS = 20;

export type Step = <T>(name: string, operation: () => Promise<T> | T) => Promise<T>;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Steps that begin without the garbage of what came before. */
export function cleanly(step: Step): Step {
  return (name, operation) => {
    collectGarbage();
    return step(name, operation);
  };
}

/** Pauses of the garbage collector: where each begins, and how long it takes, in milliseconds of `performance.now()`. */
const pauses: { readonly startTime: number; readonly duration: number }[] = [];
new PerformanceObserver((list) => void pauses.push(...list.getEntries())).observe({ entryTypes: ['gc'] });

/**
 * The longest step of the event loop of each operation, in milliseconds of CPU time of the calling thread, and for how much of
 * that the garbage collector stopped everything else.
 */
export class LongestSteps {
  readonly rows: string[][] = [];

  /** Runs an operation to its end while the event loop turns, and notes its longest step. */
  async step<T>(name: string, operation: () => Promise<T> | T): Promise<T> {
    let longest = { ms: 0, from: 0, to: 0 };
    let runs = true;
    let last = cpuMs();
    let from = performance.now();
    pauses.length = 0;
    const look = () => {
      const [now, to] = [cpuMs(), performance.now()];
      if (now - last > longest.ms) longest = { ms: now - last, from, to };
      last = now;
      from = to;
    };
    const turning = (async () => {
      while (runs) {
        await setImmediate();
        look();
      }
    })();
    try {
      return await operation();
    } finally {
      look();
      runs = false;
      await turning;
      await setImmediate(); // The observer is called after the pauses.
      const within = pauses.filter(({ startTime }) => startTime >= longest.from && startTime < longest.to);
      const collecting = within.reduce((sum, { duration }) => sum + duration, 0);
      this.rows.push([name, longest.ms.toFixed(1), collecting.toFixed(1), longest.ms < GOAL_MS ? 'met' : 'MISSED']);
    }
  }
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
