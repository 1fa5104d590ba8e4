/** Where an exploration begins: after some steps, named by the beginnings of their labels. */
import type { Emit } from '../explore.ts';

export function sceneOf<S>(start: S, labels: readonly string[], successors: (state: S, emit: Emit<S>) => void): S {
  return labels.reduce((state, beginning) => {
    const found: S[] = [];
    successors(state, (label, next) => {
      if (label.startsWith(beginning)) found.push(next);
    });
    if (found.length === 0) throw new Error(`no step begins with ${beginning}`);
    return found[0]!;
  }, start);
}
