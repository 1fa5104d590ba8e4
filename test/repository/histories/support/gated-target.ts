import type { CloudTarget, PutOptions } from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../../src/targets/decorators/forwarding-target.ts';

/** A put that is being held. */
export interface HeldPut {
  /** Resolves with its key once it has come. */
  readonly reached: Promise<string>;
  readonly release: () => void;
}

/** Holds puts back until they are let go, as a slow network or a paused process would. */
export class GatedTarget extends ForwardingTarget {
  readonly #gates: { prefix: string; after: number; reached: (key: string) => void; released: Promise<void> }[] = [];

  constructor(inner: CloudTarget) {
    super(inner, 'this GatedTarget');
  }

  /** Holds the next put below a prefix, after so many that pass. */
  hold(prefix: string, after = 0): HeldPut {
    const reached = Promise.withResolvers<string>();
    const released = Promise.withResolvers<void>();
    this.#gates.push({ prefix, after, reached: reached.resolve, released: released.promise });
    return { reached: reached.promise, release: released.resolve };
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    const gate = this.#gates.find(({ prefix }) => key.startsWith(prefix));
    if (gate !== undefined && gate.after-- === 0) {
      this.#gates.splice(this.#gates.indexOf(gate), 1);
      gate.reached(key);
      await gate.released;
    }
    await this.inner.put(key, body, options);
  }
}
