import type { AbortOptions } from '../../../../src/common/abort.ts';
import type {
  CloudTarget,
  GetOptions,
  ListOptions,
  ObjectInfo,
  PutOptions,
} from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../../src/targets/decorators/forwarding-target.ts';
import type { RandomSource } from '../../../../src/testing/seeded-random.ts';

/** Holds every request, and its answer, until chance lets it go: one at a time, in an order that the seed gives. */
export class InterleavingTarget extends ForwardingTarget {
  readonly #random: RandomSource;
  readonly #waiting: (() => void)[] = [];
  #isPumping = false;

  constructor(inner: CloudTarget, random: RandomSource) {
    super(inner, 'this InterleavingTarget');
    this.#random = random;
  }

  protected override async forwardPut(key: string, body: Uint8Array<ArrayBuffer>, options: PutOptions): Promise<void> {
    await this.#turn();
    try {
      await this.inner.put(key, body, options);
    } finally {
      await this.#turn();
    }
  }

  protected override async forwardGet(key: string, options: GetOptions): ReturnType<CloudTarget['get']> {
    await this.#turn();
    try {
      return await this.inner.get(key, options);
    } finally {
      await this.#turn();
    }
  }

  protected override async forwardStat(key: string, options: AbortOptions): Promise<ObjectInfo | undefined> {
    await this.#turn();
    return this.inner.stat(key, options);
  }

  protected override async *forwardList(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo> {
    await this.#turn();
    // As a store answers: a page at once.
    const page: ObjectInfo[] = [];
    for await (const info of this.inner.list(prefix, options)) page.push(info);
    await this.#turn();
    yield* page;
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (!this.#isPumping) void this.#pump();
    });
  }

  async #pump(): Promise<void> {
    this.#isPumping = true;
    // A turn of the event loop between two: whoever was let go gets as far as its next request.
    await new Promise(setImmediate);
    while (this.#waiting.length > 0) {
      const index = Math.floor(this.#random() * this.#waiting.length);
      this.#waiting.splice(index, 1)[0]!();
      await new Promise(setImmediate);
    }
    this.#isPumping = false;
  }
}
