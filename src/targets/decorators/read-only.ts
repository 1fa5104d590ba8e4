import { BackupError } from '../../common/errors.ts';
import type {
  CloudTarget,
  Leftovers,
  RemoveLeftoversOptions,
  TargetCapabilities,
  TargetMember,
} from '../cloud-target.ts';
import { type ClosableTarget, ForwardingTarget, type TargetCall, type TargetOperation } from './forwarding-target.ts';

/**
 * Refuses whatever would change the store, with `READ_ONLY`. For verifying and restoring where nothing may be
 * touched.
 *
 * @throws `TypeError` for a target that is none. `put`, `delete` and `deleteMany` reject with `READ_ONLY` before `target` hears of them, and so does
 * `removeLeftovers` unless it is a dry run; `storeTime` is `undefined`; the other calls throw what those of `target` throw.
 * @public
 */
export function readOnlyTarget(target: CloudTarget): ClosableTarget {
  return new ReadOnlyTarget(target);
}

const CHANGING: ReadonlySet<TargetOperation> = new Set(['put', 'delete', 'deleteMany']);

class ReadOnlyTarget extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this read-only target');
  }

  override get capabilities(): TargetCapabilities {
    return { ...this.inner.capabilities, createOnly: false };
  }

  override get members(): readonly TargetMember[] | undefined {
    return this.inner.members?.map(({ name, target }) => ({ name, target: readOnlyTarget(target) }));
  }

  /** A folder tells its time by writing a file. */
  protected override async forwardStoreTime(): Promise<undefined> {
    return undefined;
  }

  /** Counting is allowed: nothing is written in a dry run. */
  protected override async forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    if (options.dryRun !== true) throw new BackupError('READ_ONLY', 'removeLeftovers: this target is read-only');
    return super.forwardRemoveLeftovers(options);
  }

  protected override async around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    if (CHANGING.has(call.operation)) {
      throw new BackupError('READ_ONLY', `${call.operation} of ${call.subject}: this target is read-only`);
    }
    return invoke();
  }
}
