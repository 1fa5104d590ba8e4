import type { AbortOptions } from '../../common/abort.ts';
import { isDamage } from '../../common/damage.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { LogState, StoredBackup } from '../format/log-state.ts';
import { Marker } from '../prune/marker.ts';
import { liveOf, TableTargets } from '../prune/relocated.ts';

/**
 * Which backups are known to lack something: blocks that were lost when they were made, or something of a pack that
 * `verify` put into quarantine. Maps are only read while there is such a pack.
 */
export class Worth {
  readonly #context: RepositoryContext;
  /** By id of a backup: the packs that it needs, `undefined` where that can't be read. */
  readonly #needs = new Map<string, ReadonlySet<string> | undefined>();

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  /**
   * Whether the backup is known to lack something.
   *
   * @throws what the target gives where it does not answer: that says nothing of what is stored
   */
  async isBroken(state: LogState, backup: StoredBackup, options: AbortOptions): Promise<boolean> {
    if (!backup.intact || backup.descriptor.lost.length > 0) return true;
    if (state.quarantined.size === 0) return false;
    const needed = await this.#needed(state, backup, options);
    if (needed === undefined) return true;
    for (const key of state.quarantined.keys()) if (needed.has(key)) return true;
    return false;
  }

  /** Asked again on a newer state it answers with the packs of before: what was moved meanwhile was whole then. */
  async #needed(
    state: LogState,
    backup: StoredBackup,
    options: AbortOptions,
  ): Promise<ReadonlySet<string> | undefined> {
    if (this.#needs.has(backup.id)) return this.#needs.get(backup.id);
    let needed: ReadonlySet<string> | undefined;
    try {
      const marker = new Marker(this.#context);
      await marker.mark([backup], options);
      needed = (await liveOf(state, marker.named, new TableTargets(this.#context), options)).live;
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
    this.#needs.set(backup.id, needed);
    return needed;
  }
}
