import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import type { CloudTarget, PutResult } from '../../src/targets/cloud-target.ts';
import { fanOut } from '../../src/targets/decorators/fan-out.ts';
import { ForwardingTarget } from '../../src/targets/decorators/forwarding-target.ts';
import { readOnlyTarget } from '../../src/targets/decorators/read-only.ts';
import { withBandwidthLimit } from '../../src/targets/decorators/with-bandwidth-limit.ts';
import { withConcurrencyLimit } from '../../src/targets/decorators/with-concurrency-limit.ts';
import { withRetries } from '../../src/targets/decorators/with-retries.ts';
import { withTracing } from '../../src/targets/decorators/with-tracing.ts';
import { FileTarget } from '../../src/targets/file/file-target.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../src/testing/faults.ts';
import { FaultyTarget } from '../../src/testing/faulty-target.ts';
import { conforms } from '../support/conforms.ts';
import { folderForFile } from '../support/folders.ts';

/** As `conforms`, over one store in memory that is opened anew each time. */
function decoratorConforms(decorate: (inner: CloudTarget) => CloudTarget): void {
  conforms(() => decorate(new MemoryTarget()));
}

/**
 * Reads through a read-only target. What writes is first tried there, which must refuse it, and then done behind its
 * back, so that there is something to read.
 */
class ReadThroughReadOnly extends ForwardingTarget {
  readonly #behind: CloudTarget;

  constructor(behind: CloudTarget) {
    super(readOnlyTarget(behind), 'this target');
    this.#behind = behind;
  }

  override get capabilities() {
    expect(this.inner.capabilities).toEqual({ ...this.#behind.capabilities, createOnly: false });
    return this.#behind.capabilities;
  }

  override put(...args: Parameters<CloudTarget['put']>): Promise<PutResult> {
    return this.#refusedThen(
      () => super.put(...args),
      () => this.#behind.put(...args),
    );
  }

  override delete(...args: Parameters<CloudTarget['delete']>): Promise<void> {
    return this.#refusedThen(
      () => super.delete(...args),
      () => this.#behind.delete(...args),
    );
  }

  protected override forwardDeleteMany(...args: Parameters<Required<CloudTarget>['deleteMany']>): Promise<void> {
    return this.#refusedThen(
      () => super.forwardDeleteMany(args[0], args[1] ?? {}),
      () => (this.#behind as Required<CloudTarget>).deleteMany(...args),
    );
  }

  async #refusedThen<T>(refused: () => Promise<T>, behind: () => Promise<T>): Promise<T> {
    const error = await refused().then(
      () => 'it was not refused',
      (reason: unknown) => reason,
    );
    if (!BackupError.is(error, 'READ_ONLY')) throw error; // Closed or aborted.
    return behind();
  }
}

describe('MemoryTarget', () => conforms(() => new MemoryTarget()));
describe('MemoryTarget without createOnly', () => conforms(() => new MemoryTarget({ createOnly: false })));

describe('FileTarget', () => {
  const folder = folderForFile();
  conforms(() => new FileTarget(join(folder, 'not', 'there', 'yet')));
});

describe('withRetries', () => decoratorConforms((inner) => withRetries(inner)));
describe('withConcurrencyLimit', () => decoratorConforms((inner) => withConcurrencyLimit(inner, { concurrency: 3 })));
describe('withBandwidthLimit', () =>
  decoratorConforms((inner) =>
    withBandwidthLimit(inner, { uploadBytesPerSecond: 1e12, downloadBytesPerSecond: 1e12 }),
  ));
describe('readOnlyTarget', () => decoratorConforms((inner) => new ReadThroughReadOnly(inner)));
describe('withTracing', () => decoratorConforms((inner) => withTracing(inner)));
describe('fanOut to two replicas', () =>
  decoratorConforms((inner) => fanOut(inner, [new MemoryTarget(), new MemoryTarget()])));
describe('fanOut that tolerates a failing replica', () => {
  const broken = () => new FaultyTarget(new MemoryTarget(), scriptedFaults([{ fault: { kind: 'fail-before' } }]));
  decoratorConforms((inner) => fanOut(inner, [new MemoryTarget(), broken()], { quorum: 2 }));
});
describe('FaultyTarget without faults', () =>
  decoratorConforms((inner) => new FaultyTarget(inner, scriptedFaults([]))));
describe('all decorators at once', () =>
  decoratorConforms((inner) =>
    withTracing(withRetries(withConcurrencyLimit(withBandwidthLimit(fanOut(inner, [new MemoryTarget()]), {})))),
  ));
