import type { AbortOptions } from '../../common/abort.ts';
import { type BackupError, isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { runInSteps, StepCounter, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { type PackName, RecordKind } from '../format/record.ts';
import { decodingRelocationTable, type RelocationRow } from '../format/relocation-table.ts';
import type { NamedPack } from './marker.ts';

/** Following relocations: rule P9, decision 021. */

/** What is needed as of a state, places where things are now. */
export interface Live {
  /** Keys of packs. */
  readonly live: Set<string>;
  /** By pack key: an estimate of the bytes needed, as {@link NamedPack} says, tables included. */
  readonly bytes: ReadonlyMap<string, number>;
}

const TABLES_AT_A_TIME = 16;

/** The rows of a relocation table. */
export async function readRelocation(
  { records }: RepositoryContext,
  { id, location }: Relocation,
  { signal }: AbortOptions,
): Promise<RelocationRow[]> {
  const raw = await records.read(RecordKind.relocation, id, location, { signal });
  return runInSteps(decodingRelocationTable(raw));
}

/** Which packs relocation tables lead to, each table read once. */
export class TableTargets {
  readonly #context: RepositoryContext;
  readonly #byTable = new Map<string, readonly NamedPack[]>();

  constructor(context: RepositoryContext) {
    this.#context = context;
  }

  async of(relocation: Relocation, options: AbortOptions): Promise<readonly NamedPack[]> {
    const id = Buffer.from(relocation.id).toString('hex');
    const known = this.#byTable.get(id);
    if (known !== undefined) return known;
    const targets = new Map<string, NamedPack>();
    for (const { to } of await readRelocation(this.#context, relocation, options))
      add(targets, to.pack, to.storedLength);
    this.#byTable.set(id, [...targets.values()]);
    return [...targets.values()];
  }
}

/**
 * What maps need, relocations followed: of a pack that was moved its table and the new places are live, not the old one.
 *
 * @param named - packs as maps name them
 * @param onDamage - told of tables that can't be read; without it they throw
 * @throws what reading a table gives
 */
export async function liveOf(
  state: LogState,
  named: ReadonlyMap<string, NamedPack>,
  targets: TableTargets,
  options: AbortOptions,
  onDamage?: (relocation: Relocation, error: BackupError) => void,
): Promise<Live> {
  const live = new Map<string, NamedPack>();
  const moved: { readonly relocation: Relocation; readonly bytes: number }[] = [];
  const steps = new StepCounter();
  for (const [key, { pack, bytes }] of named) {
    if (steps.isDue()) await yieldToEventLoop();
    const relocation = state.relocations.get(key);
    if (relocation === undefined) add(live, pack, bytes);
    else moved.push({ relocation, bytes });
  }
  const targetsOf = async (relocation: Relocation) => {
    try {
      return await targets.of(relocation, options);
    } catch (error) {
      if (onDamage === undefined || !isDamage(error)) throw error;
      onDamage(relocation, error);
      return [];
    }
  };
  const look = async ({ relocation, bytes }: (typeof moved)[number]) => ({
    relocation,
    bytes,
    packs: await targetsOf(relocation),
  });
  for await (const { relocation, bytes, packs } of mapConcurrently(moved, look, TABLES_AT_A_TIME)) {
    options.signal?.throwIfAborted();
    await yieldToEventLoop();
    const { pack, storedLength } = relocation.location;
    add(live, pack, storedLength);
    for (const target of packs) add(live, target.pack, Math.min(bytes, target.bytes));
  }
  const keys = new Set<string>();
  const needed = new Map<string, number>();
  for (const [key, { bytes }] of live) {
    if (steps.isDue()) await yieldToEventLoop();
    keys.add(key);
    needed.set(key, bytes);
  }
  return { live: keys, bytes: needed };
}

function add(packs: Map<string, NamedPack>, pack: PackName, bytes: number): void {
  const key = packKey(pack);
  const known = packs.get(key);
  if (known === undefined) packs.set(key, { pack, bytes });
  else known.bytes += bytes;
}
