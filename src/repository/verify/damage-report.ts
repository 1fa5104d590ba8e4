import { BackupError, isDamage } from '../../common/errors.ts';
import { readTwice } from '../../common/read-twice.ts';
import { mapOver, type RepositoryContext } from '../context/repository-context.ts';
import type { LogState, StoredBackup } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, RecordKind } from '../format/record.ts';
import type { SortedEntries } from '../format/run-chunk.ts';
import type { BlockMap } from '../map/block-map.ts';
import { Overlay } from '../map/overlay.ts';
import { eachEntry, type MapVisitor, type VisitedChunk, type VisitedNode, visitRuns, visitTree } from '../map/visit.ts';
import { LocationSet } from '../packs/location-set.ts';
import type { RecordStore } from '../packs/record-store.ts';

/* What a verification finds damaged, and which backups need it. */

/** Damage of one pack, and which of its records it concerns. */
export interface Damage {
  readonly pack: PackName;
  readonly error: BackupError;
  /** All records are damaged. */
  readonly isMissing?: boolean | undefined;
  /** Records that end after so many bytes are damaged: the pack has no more. */
  readonly end?: number | undefined;
  /** Records that begin at these offsets are damaged. */
  readonly offsets?: Iterable<number> | undefined;
  /** Other records may be damaged too: each has to be read to find out. */
  readonly areUnsure?: boolean | undefined;
}

interface KnownDamage {
  readonly pack: PackName;
  /** The first error that was found, or the one that concerns the pack as a whole. */
  error: BackupError;
  isMissing: boolean;
  /** How many bytes there are of the pack. */
  end: number;
  areUnsure: boolean;
  readonly offsets: Set<number>;
  /** By offset: whether a record that was read to find out is damaged. */
  readonly readBad: Map<number, Promise<boolean>>;
}

/** What a verification knows to be damaged: packs, and which of their records. */
export class DamageReport {
  readonly #records: RecordStore;
  readonly #byKey = new Map<string, KnownDamage>();

  constructor(records: RecordStore) {
    this.#records = records;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Packs by key, with what is wrong. */
  entries(): Iterable<readonly [string, { readonly pack: PackName; readonly error: BackupError }]> {
    return this.#byKey;
  }

  has(key: string): boolean {
    return this.#byKey.has(key);
  }

  add({
    pack,
    error,
    isMissing = false,
    end = Number.POSITIVE_INFINITY,
    offsets = [],
    areUnsure = false,
  }: Damage): void {
    const key = packKey(pack);
    let known = this.#byKey.get(key);
    if (known === undefined) {
      known = { pack, error, isMissing, end, areUnsure, offsets: new Set(), readBad: new Map() };
      this.#byKey.set(key, known);
    }
    if (isMissing || end !== Number.POSITIVE_INFINITY) known.error = error;
    known.isMissing ||= isMissing;
    known.areUnsure ||= areUnsure;
    known.end = Math.min(known.end, end);
    for (const offset of offsets) known.offsets.add(offset);
  }

  /**
   * Adds a record that can't be read, by its location in a map or the log. At fault may be a table that says where it is.
   *
   * @returns the key of the pack that is at fault
   */
  async addRecord(location: Location, error: BackupError): Promise<string> {
    const { pack, offset } = await this.#records.relocations.culprit(location);
    this.add({ pack, error, offsets: [offset] });
    return packKey(pack);
  }

  /** Whether a record is damaged. @param location - where it is now */
  async isBad(kind: RecordKind, id: Uint8Array, location: Location): Promise<boolean> {
    const known = this.#byKey.get(packKey(location.pack));
    if (known === undefined) return false;
    const { offset, storedLength } = location;
    if (known.isMissing || known.offsets.has(offset) || offset + storedLength > known.end) return true;
    if (!known.areUnsure) return false;
    const look = known.readBad.get(offset) ?? this.#look(kind, id, location);
    known.readBad.set(offset, look);
    return look;
  }

  async #look(kind: RecordKind, id: Uint8Array, location: Location): Promise<boolean> {
    try {
      await this.#records.read(kind, id, location);
      return false;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return true;
    }
  }
}

export function packCorrupt(pack: PackName, how: string): BackupError {
  return new BackupError('PACK_CORRUPT', `${packKey(pack)} is damaged: ${how}`);
}

/** A block whose record is damaged, and the key of the pack at fault. */
interface BadBlock {
  readonly block: number;
  readonly key: string;
}

const MAX_LEAVES_KEPT = 2 ** 16;

/**
 * Which backups need what is damaged: of each map the nodes and runs, and the blocks that no newer run hides. Of maps it reads
 * what may lead to damage; a part of one map that leads to none is not looked at again in the next. A node may turn out to be
 * damaged only now: then it is added to the damage.
 */
export class AffectedBackups {
  /** By key of a damaged pack: ids of backups. */
  readonly byPack = new Map<string, string[]>();
  readonly #context: RepositoryContext;
  readonly #state: LogState;
  readonly #records: RecordStore;
  readonly #damages: DamageReport;
  readonly #signal: AbortSignal;
  /** Keys of packs, as maps name them, of which a record may be damaged. */
  readonly #suspects = new Set<string>();
  /** Nodes below which nothing is damaged. */
  readonly #clean = new LocationSet();
  readonly #badBlocks = new Map<string, readonly BadBlock[]>();

  constructor(
    context: RepositoryContext,
    state: LogState,
    records: RecordStore,
    damages: DamageReport,
    signal: AbortSignal,
  ) {
    this.#context = context;
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

  /** Damaged packs, and repacked ones that lead to them: maps still name these (P9). */
  async #suspect(): Promise<void> {
    for (const [key] of this.#damages.entries()) this.#suspects.add(key);
    for (const [key, relocation] of this.#state.relocations) {
      const targets = await readTwice(() => this.#records.relocations.targets(relocation, { readsLog: true }));
      if ('error' in targets) await this.#damages.addRecord(relocation.location, targets.error);
      if ('error' in targets || targets.value.some(({ pack }) => this.#damages.has(packKey(pack)))) {
        this.#suspects.add(key);
      }
    }
  }

  /** Keys of damaged packs of which a backup needs what is damaged. */
  async #needed({ descriptor }: StoredBackup): Promise<Set<string>> {
    const keys = new Set<string>();
    const map = mapOver(this.#context, this.#records, descriptor);
    const overlay = await this.#lookAtRuns(map, keys);
    const isHidden = (block: number) => {
      if (map.isLost(block)) return true;
      const at = overlay.from(block);
      return at < overlay.count && overlay.block(at) === block;
    };
    // Nodes below which something is damaged, hidden or not.
    const unclean = new Set<VisitedNode>();
    const taint = (at: VisitedNode) => {
      for (let up: VisitedNode | undefined = at; up !== undefined && !unclean.has(up); up = up.parent) unclean.add(up);
    };
    const visitor: MapVisitor<VisitedNode> = {
      enter: async (at) => {
        if (this.#clean.has(at.ref.location)) return false;
        if (at.kind !== RecordKind.leaf) return true;
        const fault = await this.#faultOf(RecordKind.leaf, at.ref);
        // The parent says in which packs the blocks are.
        if (fault === undefined) return at.ref.usage?.some(({ pack }) => this.#suspects.has(packKey(pack))) ?? true;
        keys.add(fault);
        taint(at);
        return false;
      },
      entries: async (entries, at) => {
        const bad = await this.#badIn(at.ref.location, entries);
        for (const { block, key } of bad) if (!isHidden(block)) keys.add(key);
        if (bad.length === 0) this.#clean.add(at.ref.location);
        else taint(at);
      },
      leave: (at) => {
        if (!unclean.has(at)) this.#clean.add(at.ref.location);
      },
      damaged: async (at, error) => {
        keys.add(await this.#damages.addRecord(at.ref.location, error));
        taint(at);
      },
    };
    await visitTree(map, visitor, { signal: this.#signal });
    return keys;
  }

  /** @returns the runs that can be read, merged */
  async #lookAtRuns(map: BlockMap, keys: Set<string>): Promise<Overlay> {
    const runs = map.descriptor.runs.map((): SortedEntries[] => []);
    let hasBad = false;
    const visitor: MapVisitor<VisitedChunk> = {
      enter: () => true,
      entries: async (entries, { ref, run }) => {
        runs[run]?.push(entries);
        hasBad = (await this.#badIn(ref.location, entries)).length > 0 || hasBad;
      },
      damaged: async ({ ref }, error) => void keys.add(await this.#damages.addRecord(ref.location, error)),
    };
    await visitRuns(map, visitor, { signal: this.#signal });
    const overlay = await Overlay.of(runs);
    if (!hasBad) return overlay;
    await eachEntry(overlay, async (block, entry) => {
      const fault = entry === undefined || map.isLost(block) ? undefined : await this.#faultOf(RecordKind.block, entry);
      if (fault !== undefined) keys.add(fault);
    });
    return overlay;
  }

  /** The blocks of a leaf or run chunk whose records are damaged. */
  async #badIn({ pack, offset }: Location, entries: SortedEntries): Promise<readonly BadBlock[]> {
    const name = `${packKey(pack)}/${offset}`;
    const known = this.#badBlocks.get(name);
    if (known !== undefined) return known;
    const found: Promise<BadBlock | undefined>[] = [];
    await eachEntry(entries, (block, entry) => {
      if (entry === undefined || !this.#suspects.has(packKey(entry.location.pack))) return;
      found.push(this.#faultOf(RecordKind.block, entry).then((key) => (key === undefined ? key : { block, key })));
    });
    const bad = (await Promise.all(found)).filter((each) => each !== undefined);
    if (this.#badBlocks.size < MAX_LEAVES_KEPT) this.#badBlocks.set(name, bad);
    return bad;
  }

  /** The key of the pack that is at fault if a record is known to be damaged. */
  async #faultOf(
    kind: RecordKind,
    { id, location }: { readonly id: Uint8Array; readonly location: Location },
  ): Promise<string | undefined> {
    if (!this.#suspects.has(packKey(location.pack))) return undefined;
    try {
      const now = await this.#records.relocations.locate(location);
      return (await this.#damages.isBad(kind, id, now)) ? packKey(now.pack) : undefined;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return this.#damages.addRecord(location, error);
    }
  }
}
