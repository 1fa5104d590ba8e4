import { describe, expect, test } from 'vitest';
import type { AbortOptions } from '../../src/common/abort.ts';
import type { ByteRange } from '../../src/common/byte-range.ts';
import type { CloudTarget, ObjectInfo } from '../../src/targets/cloud-target.ts';
import { fanOut } from '../../src/targets/decorators/fan-out.ts';
import { ForwardingTarget } from '../../src/targets/decorators/forwarding-target.ts';
import { withRetries } from '../../src/targets/decorators/with-retries.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { conforms } from '../support/conforms.ts';
import { bytes } from './decorators/support/targets.ts';

/** An adapter as its author writes it, with the types that the interface shows: bytes are a plain `Uint8Array`. */
class PlainAdapter implements CloudTarget {
  readonly capabilities = { createOnly: true };
  readonly #store = new MemoryTarget();

  async put(
    key: string,
    body: Uint8Array<ArrayBuffer>,
    options?: AbortOptions & { createOnly?: boolean | undefined },
  ): Promise<void> {
    await this.#store.put(key, body, options);
  }

  async get(key: string, options?: AbortOptions & { range?: ByteRange | undefined }): Promise<Uint8Array> {
    const body: Uint8Array = await this.#store.get(key, options);
    return Buffer.from(body);
  }

  stat(key: string, options?: AbortOptions): Promise<ObjectInfo | undefined> {
    return this.#store.stat(key, options);
  }

  list(prefix: string, options?: AbortOptions & { after?: string | undefined }): AsyncIterable<ObjectInfo> {
    return this.#store.list(prefix, options);
  }

  delete(key: string, options?: AbortOptions): Promise<void> {
    return this.#store.delete(key, options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#store.close();
  }
}

class PlainDecorator extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this decorator');
  }

  protected override async forwardGet(...args: Parameters<CloudTarget['get']>): Promise<Uint8Array> {
    return this.inner.get(...args);
  }
}

describe('an adapter that answers a plain Uint8Array', () => {
  conforms(() => new PlainAdapter());
});

test('goes into every decorator', async () => {
  const target: CloudTarget = withRetries(fanOut(new PlainDecorator(new PlainAdapter()), [new PlainAdapter()]));
  await target.put('a', bytes(1));
  expect([...(await target.get('a'))]).toEqual([1]);
});

test('our own targets promise an array buffer, as bodies of a put need one', async () => {
  const from = new MemoryTarget();
  await from.put('a', bytes(1));
  const body: Uint8Array<ArrayBuffer> = await from.get('a');
  await new PlainAdapter().put('a', body);
});
