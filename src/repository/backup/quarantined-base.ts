import type { AbortOptions } from '../../common/abort.ts';
import { type BlockRange, unionRanges } from '../../common/block-range.ts';
import { isDamage } from '../../common/errors.ts';
import { readTwice } from '../../common/read-twice.ts';
import { freshRecords } from '../context/fresh-records.ts';
import { mapOver, once, type RepositoryContext } from '../context/repository-context.ts';
import type { NodeRef } from '../format/inner-node.ts';
import type { LogState } from '../format/log-state.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import type { SortedEntries } from '../format/run-chunk.ts';
import type { BlockMap } from '../map/block-map.ts';
import { Overlay } from '../map/overlay.ts';
import { eachEntry, type MapVisitor, type VisitedChunk, type VisitedNode, visitRuns, visitTree } from '../map/visit.ts';
import type { RecordStore } from '../packs/record-store.ts';

/**
 * What the quarantine means for a backup against a base. Without a quarantine nothing is read at all.
 *
 * A pack in quarantine may be half good. The next backup stores all of the volume's content again that the pack holds: that
 * costs a pack's worth of data once, and makes the volume independent of the pack. Nodes and runs are a part of nearly every
 * pack; they go on being shared as long as the store still has them right, which is checked each time: a map that can be read
 * says where everything is, whatever else is damaged around it.
 */

/**
 * The blocks of a map whose content is in packs that are in quarantine, ascending: they have to be stored again. If a node or
 * run can't be read any more, all blocks that it covers count.
 */
export async function damagedBlocksOf(
  context: RepositoryContext,
  map: BlockMap,
  options: AbortOptions,
): Promise<BlockRange[]> {
  return (await examined(context, map, options)).blocks;
}

/** Whether a node or run of a map can't be read any more. Then a backup writes a map of its own, as if it had no base. */
export async function needsRebuild(context: RepositoryContext, map: BlockMap, options: AbortOptions): Promise<boolean> {
  return (await examined(context, map, options)).isBroken;
}

interface Examined {
  readonly blocks: BlockRange[];
  readonly isBroken: boolean;
}

const SOUND: Examined = { blocks: [], isBroken: false };

/** Callers always need both answers, so the last result is cached per map. */
const lastExamined = new WeakMap<BlockMap, { readonly state: LogState; readonly answer: Examined }>();

async function examined(context: RepositoryContext, map: BlockMap, { signal }: AbortOptions): Promise<Examined> {
  const { state } = context.log;
  if (state.quarantined.size === 0) return SOUND;
  const known = lastExamined.get(map);
  if (known?.state === state) return known.answer;
  const { insist = once } = context;
  const answer = await insist(() => new Examination(context, map, state, signal).run());
  lastExamined.set(map, { state, answer });
  return answer;
}

/** A walk over one map that leads around damage. All of it is read from the store: memory says nothing about the store. */
class Examination {
  readonly #map: BlockMap;
  readonly #records: RecordStore;
  readonly #state: LogState;
  readonly #signal: AbortSignal | undefined;
  readonly #blocks: BlockRange[] = [];
  #overlay = Overlay.EMPTY;
  #isBroken = false;

  constructor(context: RepositoryContext, { descriptor }: BlockMap, state: LogState, signal: AbortSignal | undefined) {
    this.#state = state;
    this.#signal = signal;
    this.#records = freshRecords(context, { signal });
    this.#map = mapOver(context, this.#records, descriptor, { cacheBytes: 0 });
  }

  async run(): Promise<Examined> {
    await this.#lookAtRuns();
    await this.#lookAtTree();
    return { blocks: unionRanges(this.#blocks), isBroken: this.#isBroken };
  }

  async #lookAtRuns(): Promise<void> {
    const runs = this.#map.descriptor.runs.map((): SortedEntries[] => []);
    const visitor: MapVisitor<VisitedChunk> = {
      enter: () => true,
      entries: (entries, { run }) => void runs[run]?.push(entries),
      damaged: ({ ref }) => this.#breaks(ref.firstBlock, ref.lastBlock + 1),
    };
    await visitRuns(this.#map, visitor, { signal: this.#signal });
    this.#overlay = await Overlay.of(runs);
    await eachEntry(this.#overlay, (block, entry) => this.#lookAt(block, entry));
  }

  /** Leaves are read where their content, or they themselves, may be in quarantine. */
  async #lookAtTree(): Promise<void> {
    const visitor: MapVisitor<VisitedNode> = {
      enter: ({ kind, ref }) => kind !== RecordKind.leaf || this.#isSuspicious(ref),
      entries: (entries) =>
        eachEntry(entries, (block, entry) => (this.#isHidden(block) ? undefined : this.#lookAt(block, entry))),
      damaged: ({ level, index }) => this.#breaksNode(level, index),
    };
    await visitTree(this.#map, visitor, { signal: this.#signal });
  }

  async #isSuspicious({ location, usage }: NodeRef): Promise<boolean> {
    if (usage === undefined) return true;
    const packs = [location.pack, ...usage.map(({ pack }) => pack)];
    return (await Promise.all(packs.map((pack) => this.#mayHoldBad(pack)))).includes(true);
  }

  #isHidden(block: number): boolean {
    const at = this.#overlay.from(block);
    return at < this.#overlay.count && this.#overlay.block(at) === block;
  }

  async #lookAt(block: number, entry: BlockEntry | undefined): Promise<void> {
    if (entry !== undefined && !this.#map.isLost(block) && (await this.#isBad(entry.location))) {
      this.#blocks.push({ firstBlock: block, blockCount: 1 });
    }
  }

  /** Whether any record that a map names in a pack may be in quarantine now. */
  async #mayHoldBad(pack: PackName): Promise<boolean> {
    const key = packKey(pack);
    if (this.#state.quarantined.has(key)) return true;
    if (!this.#state.relocations.has(key)) return false;
    const table = await readTwice(() => this.#records.relocations.newestTable(pack));
    if ('error' in table) return true;
    return table.value?.targets.some((to) => this.#state.quarantined.has(packKey(to.pack))) ?? false;
  }

  async #isBad(location: Location): Promise<boolean> {
    const key = packKey(location.pack);
    if (this.#state.quarantined.has(key)) return true;
    if (!this.#state.relocations.has(key)) return false;
    try {
      const now = await this.#records.relocations.locate(location);
      return this.#state.quarantined.has(packKey(now.pack));
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true; // Nothing says where it is.
    }
  }

  #breaksNode(level: number, index: number): void {
    const span = this.#map.geometry.span(level);
    this.#breaks(index * span, Math.min((index + 1) * span, this.#map.geometry.blockCount));
  }

  #breaks(firstBlock: number, end: number): void {
    this.#isBroken = true;
    this.#blocks.push({ firstBlock, blockCount: end - firstBlock });
  }
}
