import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import type { CloudTarget } from '../../src/target/cloud-target.ts';
import { fanOut } from '../../src/target/fan-out.ts';
import { FileTarget } from '../../src/target/file-target.ts';
import { MemoryTarget } from '../../src/target/memory-target.ts';
import { withBandwidthLimit } from '../../src/target/with-bandwidth-limit.ts';
import { withConcurrencyLimit } from '../../src/target/with-concurrency-limit.ts';
import { withRetries } from '../../src/target/with-retries.ts';
import { withTracing } from '../../src/target/with-tracing.ts';
import { scriptedFaults } from '../../src/testing/faults.ts';
import { FaultyTarget } from '../../src/testing/faulty-target.ts';
import { conforms } from '../support/conforms.ts';

/** As `conforms`, over one store in memory that is opened anew each time. */
function decoratorConforms(decorate: (inner: CloudTarget) => CloudTarget): void {
  conforms(() => decorate(new MemoryTarget()));
}

describe('MemoryTarget', () => conforms(() => new MemoryTarget()));
describe('MemoryTarget without createOnly', () => conforms(() => new MemoryTarget({ createOnly: false })));

describe('FileTarget', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cow-file-target-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  conforms(() => new FileTarget(join(folder, 'not', 'there', 'yet')));
});

describe('withRetries', () => decoratorConforms((inner) => withRetries(inner)));
describe('withConcurrencyLimit', () => decoratorConforms((inner) => withConcurrencyLimit(inner, { concurrency: 3 })));
describe('withBandwidthLimit', () =>
  decoratorConforms((inner) =>
    withBandwidthLimit(inner, { uploadBytesPerSecond: 1e12, downloadBytesPerSecond: 1e12 }),
  ));
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
