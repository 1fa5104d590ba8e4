import { isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { ENTRIES_AT_ONCE, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { FreshRecords } from '../context/fresh-records.ts';
import { childrenOf, loadChunk, type NodeAt, readLeaves, readTwice } from '../context/map-walk.ts';
import type { LogState, StoredBackup } from '../format/log-state.ts';
import type { BlockEntry } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, RecordKind } from '../format/record.ts';
import type { BlockMap } from '../map/block-map.ts';
import { Overlay } from '../map/overlay.ts';
import { PlaceSet } from '../packs/location-set.ts';
import type { Damages } from './damages.ts';

/** A block of a leaf or run chunk whose record is damaged. */
interface BadBlock {
  readonly block: number;
  readonly key: string;
}

const NODES_AT_A_TIME = 4;
const MAX_LEAVES_KEPT = 2 ** 16;

/**
 * Which backups need what is damaged: of each map the nodes and runs, and the blocks that no newer run hides. Of maps it
 * reads what may lead there; what one map was found not to need is not looked at again in the next.
 *
 * A node may turn out to be damaged only now: then it is added.
 */
export class AffectedBackups {
  /** By key of a damaged pack: ids of backups. */
  readonly byPack = new Map<string, string[]>();
  readonly #state: LogState;
  readonly #records: FreshRecords;
  readonly #damages: Damages;
  readonly #signal: AbortSignal;
  /** Keys of packs, as maps name them, of which a record may be damaged. */
  readonly #suspects = new Set<string>();
  /** Nodes below which nothing is damaged. */
  readonly #clean = new PlaceSet();
  readonly #badBlocks = new Map<string, readonly BadBlock[]>();

  constructor(state: LogState, records: FreshRecords, damages: Damages, signal: AbortSignal) {
    this.#state = state;
    this.#records = records;
    this.#damages = damages;
    this.#signal = signal;
  }

  async find(): Promise<void> {
    await this.#suspect();
    for (const backup of this.#state.backups.values()) {
      this.#signal.throwIfAborted();
      for (const key of await this.#needed(backup)) {
        const ids = this.byPack.get(key);
        if (ids === undefined) this.byPack.set(key, [backup.id]);
        else ids.push(backup.id);
      }
    }
  }

  /** Damaged packs by the names that maps may still have for them: P9. */
  async #suspect(): Promise<void> {
    for (const [key] of this.#damages.entries()) this.#suspects.add(key);
    for (const [key, relocation] of this.#state.relocations) {
      const table = await readTwice(() => this.#records.readTable(relocation));
      if ('error' in table) await this.#damages.addRecord(relocation.location, table.error);
      const leadsThere = 'error' in table || table.value.packs.some((pack) => this.#damages.has(packKey(pack)));
      if (leadsThere) this.#suspects.add(key);
    }
  }

  /** Keys of damaged packs of which a backup needs what is damaged. */
  async #needed({ descriptor }: StoredBackup): Promise<Set<string>> {
    const keys = new Set<string>();
    const map = this.#records.map(descriptor);
    const overlay = await this.#lookAtRuns(map, keys);
    const { root } = map.tree;
    const isHidden = (block: number) => {
      if (map.isLost(block)) return true;
      const at = overlay.from(block);
      return at < overlay.count && overlay.block(at) === block;
    };
    const level = map.geometry.rootLevel;
    if (root !== undefined) await this.#lookAtNodes(map, [{ ref: root, index: 0 }], level, isHidden, keys);
    return keys;
  }

  /** @returns what can be read of the runs, merged */
  async #lookAtRuns(map: BlockMap, keys: Set<string>): Promise<Overlay> {
    const runs: Awaited<ReturnType<typeof loadChunk>>[][] = [];
    let hasBad = false;
    for (const refs of map.descriptor.runs) {
      const run: (typeof runs)[number] = [];
      for (const ref of refs) {
        const chunk = await readTwice(() => loadChunk(map, this.#records, ref));
        if ('error' in chunk) keys.add(await this.#damages.addRecord(ref.location, chunk.error));
        else {
          run.push(chunk.value);
          const { count } = chunk.value;
          const bad = await this.#badIn(ref.location, count, (slot) => ({
            block: chunk.value.block(slot),
            entry: chunk.value.entry(slot),
          }));
          hasBad ||= bad.length > 0;
        }
      }
      runs.push(run);
    }
    const overlay = await Overlay.of(runs);
    for (let at = 0; hasBad && at < overlay.count; at++) {
      if (at % ENTRIES_AT_ONCE === 0) await yieldToEventLoop();
      const entry = overlay.entry(at);
      if (entry === undefined || map.isLost(overlay.block(at))) continue;
      const key = await this.#faultOf(RecordKind.block, entry);
      if (key !== undefined) keys.add(key);
    }
    return overlay;
  }

  /** @returns whether nothing is damaged there, hidden or not */
  async #lookAtNodes(
    map: BlockMap,
    siblings: readonly NodeAt[],
    level: number,
    isHidden: (block: number) => boolean,
    keys: Set<string>,
  ): Promise<boolean> {
    const open = siblings.filter(({ ref }) => !this.#clean.has(ref.location));
    if (level === 0) return this.#lookAtLeaves(map, open, isHidden, keys);
    const { fanOut } = map.geometry;
    const look = async ({ ref, index }: NodeAt): Promise<boolean> => {
      const node = await readTwice(() => map.tree.loadInner(ref, level, index, { keep: false }));
      if ('error' in node) {
        keys.add(await this.#damages.addRecord(ref.location, node.error));
        return false;
      }
      const children = await childrenOf(node.value, index, fanOut);
      const isClean = await this.#lookAtNodes(map, children, level - 1, isHidden, keys);
      if (isClean) this.#clean.add(ref.location);
      return isClean;
    };
    let areClean = true;
    for await (const isClean of mapConcurrently(open, look, NODES_AT_A_TIME)) {
      this.#signal.throwIfAborted();
      areClean &&= isClean;
    }
    return areClean;
  }

  async #lookAtLeaves(
    map: BlockMap,
    leaves: readonly NodeAt[],
    isHidden: (block: number) => boolean,
    keys: Set<string>,
  ): Promise<boolean> {
    let areClean = true;
    const toRead: NodeAt[] = [];
    for (const at of leaves) {
      const { ref } = at;
      const fault = await this.#faultOf(RecordKind.leaf, ref);
      if (fault !== undefined) {
        keys.add(fault);
        areClean = false;
      } else if (ref.usage === undefined || ref.usage.some(({ pack }) => this.#suspects.has(packKey(pack)))) {
        toRead.push(at);
      }
    }
    for (const { at, leaf } of await readLeaves(map, this.#records, toRead)) {
      if ('error' in leaf) {
        keys.add(await this.#damages.addRecord(at.ref.location, leaf.error));
        areClean = false;
        continue;
      }
      const first = at.index * map.geometry.fanOut;
      const table = leaf.value;
      const entryAt = (slot: number) => ({ block: first + slot, entry: table.entry(slot) });
      const bad = await this.#badIn(at.ref.location, table.count, entryAt);
      for (const { block, key } of bad) if (!isHidden(block)) keys.add(key);
      if (bad.length === 0) this.#clean.add(at.ref.location);
      else areClean = false;
    }
    return areClean;
  }

  /** The blocks of a leaf or run chunk whose records are damaged. */
  async #badIn(
    { pack, offset }: Location,
    count: number,
    entryAt: (slot: number) => { block: number; entry: BlockEntry | undefined },
  ): Promise<readonly BadBlock[]> {
    const place = `${packKey(pack)}/${offset}`;
    const known = this.#badBlocks.get(place);
    if (known !== undefined) return known;
    const found: Promise<BadBlock | undefined>[] = [];
    for (let slot = 0; slot < count; slot++) {
      const { block, entry } = entryAt(slot);
      if (entry === undefined || !this.#suspects.has(packKey(entry.location.pack))) continue;
      found.push(this.#faultOf(RecordKind.block, entry).then((key) => (key === undefined ? key : { block, key })));
    }
    const bad = (await Promise.all(found)).filter((each) => each !== undefined);
    if (this.#badBlocks.size < MAX_LEAVES_KEPT) this.#badBlocks.set(place, bad);
    return bad;
  }

  /** The key of the pack that is at fault when a record can't be read; `undefined` when it can, as far as is known. */
  async #faultOf(
    kind: RecordKind,
    { id, location }: { readonly id: Uint8Array; readonly location: Location },
  ): Promise<string | undefined> {
    if (!this.#suspects.has(packKey(location.pack))) return undefined;
    try {
      const place = await this.#records.locate(location);
      return (await this.#damages.isBad(kind, id, place)) ? packKey(place.pack) : undefined;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return this.#damages.addRecord(location, error);
    }
  }
}
