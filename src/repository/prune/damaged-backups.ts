import type { AbortOptions } from '../../common/abort.ts';
import type { BackupError } from '../../common/errors.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { Relocation } from '../format/log-entry.ts';
import { type LogState, markedBackups } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { type DamagedMap, type Live, LivePacks } from './live-packs.ts';

/** A backup that can't be read in full. @public */
export interface DamagedBackup {
  readonly id: string;
  /** The volume's name. */
  readonly volume: string;
  /** `PACK_MISSING`, `PACK_CORRUPT`, `RECORD_CORRUPT` or `MAP_CORRUPT`: the first damage that was found. `verify` names all of it. */
  readonly error: BackupError;
}

/** What is needed by the maps and the parts of maps that can be read. */
export interface Needed extends Live {
  readonly damaged: readonly DamagedBackup[];
  /**
   * All packs of this session and of those before it may be needed by a damaged backup: a map names packs that were known when
   * it was committed, and repacked records are in packs of the repacker's session. 0: nothing is damaged.
   */
  readonly neededThrough: number;
}

/** Marks what can be read of every backup; see {@link Needed}. @throws what reading throws, unless it is damage */
export async function neededOf(
  context: RepositoryContext,
  state: LogState,
  packs: LivePacks,
  options: AbortOptions,
): Promise<Needed> {
  const damaged = await packs.markReadable(markedBackups(state), options);
  const tables: { readonly relocation: Relocation; readonly error: BackupError }[] = [];
  const live = await packs.followed(state, options, (relocation, error) => {
    tables.push({ relocation, error });
  });
  for (const { relocation, error } of tables) {
    const known = new Set(damaged.map(({ backup }) => backup.id));
    const backups = markedBackups(state).filter(({ id }) => !known.has(id));
    for (const backup of backups) {
      const own = new LivePacks(context, packs.records); // Of its own: what is marked once is not looked at again.
      await own.markReadable([backup], options);
      if (own.named.has(packKey(relocation.pack))) damaged.push({ backup, error });
    }
  }
  const reported = damaged.map(({ backup: { id, volume }, error }) => ({ id, volume, error }));
  return { ...live, damaged: reported, neededThrough: neededThrough(state, damaged, tables) };
}

function neededThrough(
  state: LogState,
  damaged: readonly DamagedMap[],
  tables: readonly { readonly relocation: Relocation }[],
): number {
  if (damaged.length === 0 && tables.length === 0) return 0;
  let through = 0;
  for (const { backup } of damaged) through = Math.max(through, backup.session);
  for (const { relocation } of tables) through = Math.max(through, relocation.location.pack.session);
  // What was moved out of packs that may be needed is in packs of later sessions, together with its table.
  for (const { pack, location } of state.relocations.values()) {
    if (pack.session <= through) through = Math.max(through, location.pack.session);
  }
  return through;
}
