import type { AbortOptions } from '../../common/abort.ts';
import { type BlockRange, unionRanges } from '../../common/block-range.ts';
import { isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import { FreshRecords, movedPlace } from '../context/fresh-records.ts';
import { childrenOf, loadChunk, type NodeAt, readLeaves, readTwice } from '../context/map-walk.ts';
import { once, type RepositoryContext } from '../context/repository-context.ts';
import type { LogState } from '../format/log-state.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import type { Location } from '../format/record.ts';
import type { RunChunk } from '../format/run-chunk.ts';
import type { BlockMap } from '../map/block-map.ts';
import { Overlay } from '../map/overlay.ts';

/**
 * What the quarantine means to who backs a volume up against a base. Without a quarantine nothing is read at all.
 *
 * A pack in quarantine may be half good. What it holds of a volume's content is stored again by the next backup, all of it:
 * that costs a pack's worth of data once, and takes the volume off the pack. Its nodes and runs are a part of nearly every pack;
 * they go on being shared as long as the store still has them right, which is looked at afresh each time: a map that can be
 * read says where everything is, whatever else is wrong around it.
 */

/**
 * The blocks of a map whose content stands in packs that are in quarantine, ascending: they have to be stored again as if
 * they had been written to. Where a node or run can't be read any more it is every block that it may say something of.
 *
 * @throws what the target gives
 */
export async function damagedBlocksOf(
  context: RepositoryContext,
  map: BlockMap,
  options: AbortOptions,
): Promise<BlockRange[]> {
  return (await examined(context, map, options)).blocks;
}

/**
 * Whether a node or run of a map that stands in quarantine can't be read any more. Then a backup can't share the map: it
 * writes one of its own, as if it had no base.
 *
 * @throws what the target gives
 */
export async function needsRebuild(context: RepositoryContext, map: BlockMap, options: AbortOptions): Promise<boolean> {
  return (await examined(context, map, options)).isBroken;
}

interface Examined {
  readonly blocks: BlockRange[];
  readonly isBroken: boolean;
}

const NODES_AT_A_TIME = 8;
const SOUND: Examined = { blocks: [], isBroken: false };

/** Who asks one of the questions asks the other. */
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

/**
 * A walk over one map that leads around what can't be read. All of it is read from the store: what is in memory says
 * nothing of what is there.
 */
class Examination {
  readonly #map: BlockMap;
  readonly #records: FreshRecords;
  readonly #state: LogState;
  readonly #signal: AbortSignal | undefined;
  readonly #blocks: BlockRange[] = [];
  #overlay = Overlay.EMPTY;
  #isBroken = false;

  constructor(context: RepositoryContext, map: BlockMap, state: LogState, signal: AbortSignal | undefined) {
    this.#state = state;
    this.#signal = signal;
    this.#records = new FreshRecords(context, context.target, () => context.log.catchUp({ signal }), signal);
    this.#map = this.#records.map(map.descriptor);
  }

  async run(): Promise<Examined> {
    const { root } = this.#map.tree;
    await this.#lookAtRuns();
    if (root !== undefined) await this.#lookAtNodes([{ ref: root, index: 0 }], this.#map.geometry.rootLevel);
    return { blocks: unionRanges(this.#blocks), isBroken: this.#isBroken };
  }

  async #lookAtRuns(): Promise<void> {
    const runs: RunChunk[][] = [];
    for (const refs of this.#map.descriptor.runs) {
      const run: RunChunk[] = [];
      for (const ref of refs) {
        const chunk = await readTwice(() => loadChunk(this.#map, this.#records, ref));
        if ('value' in chunk) run.push(chunk.value);
        else this.#breaks(ref.firstBlock, ref.lastBlock + 1);
      }
      runs.push(run);
    }
    this.#overlay = await Overlay.of(runs);
    for (let at = 0; at < this.#overlay.count; at++) {
      if (at % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
      await this.#lookAt(this.#overlay.block(at), this.#overlay.entry(at));
    }
  }

  async #lookAtNodes(siblings: readonly NodeAt[], level: number): Promise<void> {
    if (level === 0) return this.#lookAtLeaves(siblings);
    const look = async ({ ref, index }: NodeAt) => {
      const node = await readTwice(() => this.#map.tree.loadInner(ref, level, index, { keep: false }));
      if ('error' in node) this.#breaksNode(level, index);
      else await this.#lookAtNodes(await childrenOf(node.value, index, this.#map.geometry.fanOut), level - 1);
    };
    for await (const _ of mapConcurrently(siblings, look, NODES_AT_A_TIME)) this.#signal?.throwIfAborted();
  }

  /** Leaves are read where their content, or they themselves, may be in quarantine. */
  async #lookAtLeaves(leaves: readonly NodeAt[]): Promise<void> {
    const suspicious: NodeAt[] = [];
    for (const at of leaves) {
      const { ref } = at;
      const packs = [ref.location.pack, ...(ref.usage ?? []).map(({ pack }) => pack)];
      const mayBeBad = await Promise.all(packs.map((pack) => this.#mayHoldBad({ ...ref.location, pack })));
      if (ref.usage === undefined || mayBeBad.includes(true)) suspicious.push(at);
    }
    for (const { at, leaf } of await readLeaves(this.#map, this.#records, suspicious)) {
      if ('error' in leaf) {
        this.#breaksNode(0, at.index);
        continue;
      }
      const first = at.index * this.#map.geometry.fanOut;
      for (let slot = 0; slot < leaf.value.count; slot++) {
        if (!this.#isHidden(first + slot)) await this.#lookAt(first + slot, leaf.value.entry(slot));
      }
    }
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

  /** Whether anything that a map names in the pack of a place may be in quarantine now. */
  async #mayHoldBad({ pack }: Location): Promise<boolean> {
    if (this.#state.quarantined.has(packKey(pack))) return true;
    if (!this.#state.relocations.has(packKey(pack))) return false;
    const moved = await readTwice(() => this.#records.movedFrom(pack));
    if ('error' in moved) return true;
    return moved.value?.packs.some((to) => this.#state.quarantined.has(packKey(to))) ?? false;
  }

  async #isBad(location: Location): Promise<boolean> {
    const key = packKey(location.pack);
    if (this.#state.quarantined.has(key)) return true;
    if (!this.#state.relocations.has(key)) return false;
    try {
      const moved = await this.#records.movedFrom(location.pack);
      return moved !== undefined && this.#state.quarantined.has(packKey(movedPlace(location, moved).pack));
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true; // Nobody can say where it is.
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
