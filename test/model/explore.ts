/**
 * A breadth-first explicit-state model checker. It knows nothing of backups: a model says where it
 * starts, which steps a state allows and what must hold; the explorer visits every reachable state
 * and, where something does not hold, gives a shortest way there.
 */
import { StateTable } from './state-table.ts';

export type Emit<S> = (label: string, next: S) => void;

export interface Invariant<S> {
  readonly name: string;
  /** What is wrong with the state, or undefined. */
  readonly broken: (state: S) => string | undefined;
}

export interface Model<S> {
  initial(): S;
  successors(state: S, emit: Emit<S>): void;
  encode(state: S): Uint8Array;
  decode(bytes: Uint8Array): S;
  readonly invariants: readonly Invariant<S>[];
  /** Whether a state that allows no step may be one: everybody has finished or given up. */
  mayRest(state: S): boolean;
  /** If present: from every reachable state, some continuation must reach such a state. */
  readonly goal?: ((state: S) => boolean) | undefined;
}

export interface Violation {
  readonly invariant: string;
  readonly message: string;
  /** Labels of the steps from the initial state; a shortest one for invariants and dead ends. */
  readonly trace: readonly string[];
}

export interface Exploration {
  readonly states: number;
  readonly transitions: number;
  readonly depth: number;
  /** Every reachable state was visited. False when a violation or the limit ended it early. */
  readonly exhaustive: boolean;
  readonly violation?: Violation | undefined;
  readonly elapsedMs: number;
}

export interface ExploreOptions {
  /** @default 40_000_000 */
  readonly maxStates?: number | undefined;
  readonly onProgress?: ((states: number, depth: number) => void) | undefined;
}

export function explore<S>(model: Model<S>, options: ExploreOptions = {}): Exploration {
  return new Explorer(model, options).run();
}

class Explorer<S> {
  readonly #model: Model<S>;
  readonly #options: ExploreOptions;
  readonly #table = new StateTable();
  readonly #parents = new Numbers();
  readonly #edgesFrom = new Numbers();
  readonly #edgesTo = new Numbers();
  readonly #goals: number[] = [];
  #transitions = 0;
  #depth = 0;
  #violation: { invariant: string; message: string; index: number } | undefined;

  constructor(model: Model<S>, options: ExploreOptions) {
    this.#model = model;
    this.#options = options;
  }

  run(): Exploration {
    const started = performance.now();
    const limit = this.#options.maxStates ?? 40_000_000;
    this.#visit(this.#model.initial(), 0);
    let next = 0;
    let levelEnd = this.#table.size;
    for (; next < this.#table.size && !this.#violation && this.#table.size < limit; next++) {
      if (next === levelEnd) {
        this.#depth++;
        levelEnd = this.#table.size;
      }
      if (next % 1_000_000 === 999_999) this.#options.onProgress?.(this.#table.size, this.#depth);
      this.#expand(next);
    }
    const exhaustive = !this.#violation && next === this.#table.size;
    if (exhaustive) this.#checkGoal();
    return {
      states: this.#table.size,
      transitions: this.#transitions,
      depth: this.#depth,
      exhaustive,
      violation: this.#violation && {
        invariant: this.#violation.invariant,
        message: this.#violation.message,
        trace: this.#traceTo(this.#violation.index),
      },
      elapsedMs: performance.now() - started,
    };
  }

  #expand(index: number): void {
    const state = this.#model.decode(this.#table.bytes(index));
    const before = this.#transitions;
    this.#model.successors(state, (_label, next) => {
      this.#transitions++;
      const child = this.#visit(next, index);
      if (this.#model.goal) {
        this.#edgesFrom.push(index);
        this.#edgesTo.push(child);
      }
    });
    if (this.#transitions === before && !this.#model.mayRest(state)) {
      this.#violation ??= { invariant: 'no dead end', message: 'somebody is stuck half-way', index };
    }
  }

  #visit(state: S, parent: number): number {
    const { index, isNew } = this.#table.add(this.#model.encode(state));
    if (!isNew) return index;
    this.#parents.push(parent);
    if (this.#model.goal?.(state)) this.#goals.push(index);
    if (this.#violation) return index;
    for (const { name, broken } of this.#model.invariants) {
      const message = broken(state);
      if (message !== undefined) {
        this.#violation = { invariant: name, message, index };
        break;
      }
    }
    return index;
  }

  /** Walks backwards from the goals; a state that is not met can never reach one. */
  #checkGoal(): void {
    if (!this.#model.goal) return;
    const count = this.#table.size;
    const heads = new Int32Array(count).fill(-1);
    const links = new Int32Array(this.#edgesTo.length).fill(-1);
    for (let edge = 0; edge < links.length; edge++) {
      const to = this.#edgesTo.at(edge);
      links[edge] = heads[to]!;
      heads[to] = edge;
    }
    const met = new Uint8Array(count);
    const stack = [...this.#goals];
    for (const goal of stack) met[goal] = 1;
    for (let index = stack.pop(); index !== undefined; index = stack.pop()) {
      for (let edge = heads[index]!; edge >= 0; edge = links[edge]!) {
        const from = this.#edgesFrom.at(edge);
        if (met[from]) continue;
        met[from] = 1;
        stack.push(from);
      }
    }
    const lost = met.indexOf(0);
    if (lost >= 0) this.#violation = { invariant: 'the goal stays possible', message: 'never again', index: lost };
  }

  #traceTo(index: number): string[] {
    const path = [index];
    for (let at = index; at !== 0; at = path[0]!) path.unshift(this.#parents.at(at));
    return path.slice(1).map((child, step) => this.#labelOf(path[step]!, child));
  }

  #labelOf(parent: number, child: number): string {
    let found = '?';
    this.#model.successors(this.#model.decode(this.#table.bytes(parent)), (label, next) => {
      if (this.#table.add(this.#model.encode(next)).index === child) found = label;
    });
    return found;
  }
}

/** A list of 32-bit numbers that grows. */
class Numbers {
  #items = new Uint32Array(1 << 12);
  length = 0;

  push(value: number): void {
    if (this.length === this.#items.length) {
      const items = new Uint32Array(this.length * 2);
      items.set(this.#items);
      this.#items = items;
    }
    this.#items[this.length++] = value;
  }

  at(index: number): number {
    return this.#items[index]!;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** For small models: the state as JSON text. */
export const jsonCodec = {
  encode: (state: unknown): Uint8Array => encoder.encode(JSON.stringify(state)),
  decode: <S>(bytes: Uint8Array): S => JSON.parse(decoder.decode(bytes)) as S,
};
