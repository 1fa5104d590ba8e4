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

/** The longest step of the event loop of each operation, in milliseconds of CPU time of the calling thread. */
export class LongestSteps {
  readonly rows: string[][] = [];

  /** Runs an operation to its end while the event loop turns, and notes its longest step. */
  async step<T>(name: string, operation: () => Promise<T> | T): Promise<T> {
    let longest = 0;
    let runs = true;
    let last = cpuMs();
    const look = () => {
      const now = cpuMs();
      longest = Math.max(longest, now - last);
      last = now;
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
      this.rows.push([name, longest.toFixed(1), longest < GOAL_MS ? 'met' : 'MISSED']);
    }
  }
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
