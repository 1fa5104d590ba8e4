import type { TargetOperation } from '../../../../src/targets/decorators/forwarding-target.ts';
import type { Fault, FaultCall, FaultKind, FaultPlan } from '../../../../src/testing/faults.ts';

/** What befalls some of the next calls. */
export interface Mishap {
  /** How many calls pass before. */
  readonly after: number;
  /** How many calls in a row it befalls. */
  readonly times: number;
  readonly kind: Exclude<FaultKind, 'delay'>;
}

/** A store keeps what it has acknowledged, so these befall answers only. */
const ANSWERS: { readonly [Kind in FaultKind]?: readonly TargetOperation[] } = {
  truncate: ['get', 'list'],
  corrupt: ['get'],
};

/** A plan that is made as one goes: calls pass until something is set to go wrong. */
export class Mishaps implements FaultPlan<TargetOperation> {
  /** Calls so far that something befell. */
  struck = 0;
  /** Calls since it was arranged that it could befall. */
  passed = 0;
  /** Calls since it was arranged that never get an answer. */
  unanswered = 0;
  onStruck: () => void = () => {};
  /** What befell which call, the last time. */
  last = 'nothing';
  #next: Mishap | undefined;

  arrange(mishap: Mishap | undefined): void {
    this.#next = mishap;
    this.passed = 0;
    this.unanswered = 0;
  }

  next({ operation, subject }: FaultCall<TargetOperation>): Fault | undefined {
    if (this.#next === undefined) return undefined;
    const { after, times, kind } = this.#next;
    if (ANSWERS[kind]?.includes(operation) === false) return undefined;
    const at = this.passed++;
    if (at < after || at >= after + times) return undefined;
    this.struck++;
    if (kind === 'never-answer') this.unanswered++;
    this.last = `${kind} of ${operation} ${subject}`;
    this.onStruck();
    // Any bit of the answer, the same one when it is replayed.
    return kind === 'corrupt' ? { kind, bit: Math.imul(at + 1, 0x9e3779b1) >>> 0 } : { kind };
  }
}
