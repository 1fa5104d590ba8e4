import type { AbortOptions } from '../../common/abort.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { VERIFY_SPANS } from '../packs/record-spans.ts';
import { RecordStore } from '../packs/record-store.ts';
import type { RepositoryContext } from './repository-context.ts';

/** How {@link freshRecords} reads. */
export interface FreshRecordsOptions extends AbortOptions {
  /** @defaultValue the context's */
  readonly target?: CloudTarget | undefined;
  /** Makes requests of the log, and may make them again. @defaultValue once */
  readonly insist?: (<T>(work: () => Promise<T>) => Promise<T>) | undefined;
}

/**
 * A store of records as they are in the target now, for what looks for damage. Nothing is answered from memory, since what was
 * read before says nothing about the target today. What looks damaged is read a second time before it is believed, and what is
 * missing is looked for again where the newest entries of the log say (P8).
 */
export function freshRecords(
  { target: own, keys, format, log }: RepositoryContext,
  { target = own, insist = (work) => work(), signal }: FreshRecordsOptions,
): RecordStore {
  return new RecordStore({
    target,
    keys,
    fanOut: format.fanOut,
    cacheBytes: 0,
    relocations: 'strict',
    rereadsDamage: true,
    spans: VERIFY_SPANS,
    signal,
    state: () => log.state,
    catchUp: () => insist(() => log.catchUp({ signal })),
  });
}
