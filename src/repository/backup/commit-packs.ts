import { inTurns, letOthersRun } from '../../common/event-loop-turns.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { CommittedPack, PackTable } from '../format/log-entry.ts';
import { packKey } from '../format/object-keys.ts';
import { encodingPackTable, MAX_TABLE_PACKS } from '../format/pack-table-record.ts';
import { RecordKind } from '../format/record.ts';
import type { CommitPlan } from '../log/entries/commit-decision.ts';
import { NodeWriter } from '../packs/node-writer.ts';
import type { PackWriter } from '../packs/pack-writer.ts';

/**
 * Packs that an entry lists itself, some 60 bytes each: entries are read by everybody, many times over in tails, and are
 * never deleted.
 */
const MAX_LISTED_PACKS = 64;

/** How a commit tells of its packs: the part of a `CommitPlan` that says it. */
export interface TabledPacks extends Pick<CommitPlan, 'packs'> {
  readonly packTables: readonly PackTable[];
  /** Keys of packs that the tables list. */
  readonly tabled: ReadonlySet<string>;
}

/**
 * Decides whether a commit's packs are listed in its entry, or in tables (kind 5), which are then stored. Resolves once
 * the store has everything that `writer` was given.
 *
 * @param writer - of the session: a table lies in a pack of the session itself, which the entry lists
 * @param packs - all of them, each acknowledged, also those that `writer` has stored and those of adopted sessions
 * @throws what `writer` gives
 */
export async function commitPacks(
  context: Pick<RepositoryContext, 'keys'>,
  writer: PackWriter,
  packs: readonly CommittedPack[],
): Promise<TabledPacks> {
  await writer.flush();
  const given = new Set(packs.map(packKey));
  const ownPacks = () => writer.stored.map((pack): CommittedPack => ({ ...pack, session: writer.session }));
  const added = () => ownPacks().filter((pack) => !given.has(packKey(pack)));
  const all = [...packs, ...added()];
  if (all.length <= MAX_LISTED_PACKS) return { packs: all, packTables: [], tabled: new Set() };
  const tabled = new Set(all.map(packKey));
  const nodes = new NodeWriter(context.keys, writer);
  const packTables: PackTable[] = [];
  for (let from = 0; from < all.length; from += MAX_TABLE_PACKS) {
    const listed = all.slice(from, from + MAX_TABLE_PACKS);
    const raw = await inTurns(encodingPackTable(listed));
    await letOthersRun();
    const id = context.keys.recordId(RecordKind.table, raw);
    packTables.push({ id, location: await nodes.write(RecordKind.table, id, raw, 0), packs: listed.length });
  }
  await writer.flush();
  return { packs: ownPacks().filter((pack) => !tabled.has(packKey(pack))), packTables, tabled };
}
