import { BackupError } from '../common/errors.ts';
import type { CloudTarget, TargetCapabilities } from './cloud-target.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall } from './forwarding-target.ts';

/**
 * Refuses whatever would change the store, with `READ_ONLY`. For verifying and restoring where nothing may be
 * touched.
 *
 * @throws Never. `put`, `delete` and `deleteMany` reject with `READ_ONLY` before `target` hears of them; the other calls
 * throw what those of `target` throw.
 * @public
 */
export function readOnlyTarget(target: CloudTarget): ClosableTarget {
  return new ReadOnlyTarget(target);
}

class ReadOnlyTarget extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this read-only target');
  }

  override get capabilities(): TargetCapabilities {
    return { ...this.inner.capabilities, createOnly: false };
  }

  protected override async around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    if (call.operation === 'get' || call.operation === 'stat') return invoke();
    throw new BackupError('READ_ONLY', `${call.operation} of ${call.subject}: this target is read-only`);
  }
}
