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
 * Refuses every call that would change the store, for verifying and restoring where nothing may be changed.
 *
 * `put`, `delete` and `deleteMany` reject with `READ_ONLY` before they reach `target`, and so does `removeLeftovers` unless it is
 * a dry run. `storeTime` resolves with `undefined`. The other calls throw what those of `target` throw.
 *
 * @throws `TypeError` for an invalid target
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

  /** A folder has to write a file to learn the time. */
  protected override async forwardStoreTime(): Promise<undefined> {
    return undefined;
  }

  /** A dry run writes nothing. */
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
