import { BackupError, isDamage } from '../../common/errors.ts';
import { runInSteps, StepCounter, type Steps, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { Relocation } from '../format/log-entry.ts';
import type { MapDescriptor } from '../format/map-descriptor.ts';
import { packKey } from '../format/object-keys.ts';
import { type Location, type PackName, type RecordIds, RecordKind, type RecordReader } from '../format/record.ts';
import { decodingRelocationTable, findRelocation, type RelocationRow } from '../format/relocation-table.ts';
import { BlockMap } from '../map/block-map.ts';
import { readPackBytes } from '../packs/pack-reader.ts';
import { openRecord } from '../packs/record-sealing.ts';
import type { RepositoryContext } from './repository-context.ts';

/** A record that is wanted. */
export interface WantedRecord {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  readonly location: Location;
}

/** Where the records of a pack that was moved are now. There may be 116,000: the table is kept as its bytes. */
export interface MovedRecords {
  /** By the offset in the old pack. */
  at(offset: number): RelocationRow['to'] | undefined;
  /** Those that the records are in now, each once. */
  readonly packs: readonly PackName[];
}

/** Bytes of tables that are kept. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;
/** Bytes between two records that are read along to save a request. */
const MAX_GAP_BYTES = 32 * 1024;
const MAX_REQUEST_BYTES = 4 * 1024 * 1024;

/**
 * Records as the store has them now: nothing is answered from memory, since what was read before says nothing of what is
 * there today. What looks damaged is read a second time before it is believed, and what is missing is looked for again
 * where the newest entries of the log say (P8).
 */
export class FreshRecords implements RecordReader {
  readonly target: CloudTarget;
  /** Bytes of records that were read. */
  readBytes = 0;
  readonly #context: RepositoryContext;
  readonly #catchUp: () => Promise<unknown>;
  readonly #signal: AbortSignal | undefined;
  /** By id of the table; the one that was read first comes first. */
  readonly #tables = new Map<string, { readonly moved: MovedRecords; readonly bytes: number }>();
  #keptBytes = 0;
  /** Packs that are not there, and the entry of the log up to which that was seen. */
  readonly #gone = new Map<string, number>();

  /** @param catchUp - replays what others have appended to the log */
  constructor(
    context: RepositoryContext,
    target: CloudTarget,
    catchUp: () => Promise<unknown>,
    signal: AbortSignal | undefined,
  ) {
    this.#context = context;
    this.target = target;
    this.#catchUp = catchUp;
    this.#signal = signal;
  }

  /** What ids are checked with. */
  get ids(): RecordIds {
    return this.#context.keys;
  }

  /** A map that is read through this. @throws `MAP_CORRUPT` */
  map(descriptor: MapDescriptor): BlockMap {
    const { format, keys } = this.#context;
    return new BlockMap(descriptor, format.fanOut, this, keys, { cacheBytes: 0 });
  }

  async read(kind: RecordKind, id: Uint8Array, location: Location): Promise<Uint8Array> {
    try {
      return await this.#readOnce(kind, id, location);
    } catch (error) {
      if (!isDamage(error)) throw error;
      if (BackupError.is(error, 'PACK_MISSING')) await this.#lookForNews(location.pack);
    }
    try {
      return await this.#readOnce(kind, id, location);
    } catch (error) {
      if (BackupError.is(error, 'PACK_MISSING')) await this.#noteGone(error, location);
      throw error;
    }
  }

  /** Several, those that stand side by side with one request. What can't be read is answered with why. */
  async readAll(wanted: readonly WantedRecord[]): Promise<(Uint8Array | BackupError)[]> {
    const answers: (Uint8Array | BackupError | undefined)[] = new Array(wanted.length).fill(undefined);
    const placed: Placed[] = [];
    await Promise.all(
      wanted.map(async ({ location }, index) => {
        try {
          placed.push({ index, place: await this.locate(location) });
        } catch (error) {
          if (!isDamage(error)) throw error;
        }
      }),
    );
    await Promise.all([...requestsOf(placed)].map((request) => this.#readTogether(wanted, request, answers)));
    // The second look at what did not come out right.
    const again = async (answer: Uint8Array | BackupError | undefined, index: number) => {
      if (answer !== undefined) return answer;
      const { kind, id, location } = wanted[index] as WantedRecord;
      try {
        return await this.read(kind, id, location);
      } catch (error) {
        if (!isDamage(error)) throw error;
        return error;
      }
    };
    return Promise.all(answers.map(again));
  }

  /** P9: where a record is now. @throws `MAP_CORRUPT` where a live map names what was left behind, and what reading the table gives */
  async locate(location: Location): Promise<Location> {
    const moved = await this.movedFrom(location.pack);
    return moved === undefined ? location : movedPlace(location, moved);
  }

  /** What is known of a pack that was moved, `undefined` of one that was not. */
  async movedFrom(pack: PackName): Promise<MovedRecords | undefined> {
    const relocation = this.#context.log.state.relocations.get(packKey(pack));
    return relocation && this.readTable(relocation);
  }

  /** The rows of a relocation table. */
  async readTable({ id, location }: Relocation): Promise<MovedRecords> {
    const key = Buffer.from(id).toString('hex');
    const known = this.#tables.get(key);
    if (known !== undefined) return known.moved;
    const raw = await this.read(RecordKind.relocation, id, location);
    const packs = await runInSteps(packsIn(await runInSteps(decodingRelocationTable(raw))));
    const moved: MovedRecords = { packs, at: (offset) => findRelocation(raw, offset) };
    if (!this.#tables.has(key)) this.#keep(key, moved, raw.length);
    return moved;
  }

  /** Which record it is that keeps this one from being read: itself, where it is now, or the table that would say where. */
  async culprit(location: Location): Promise<Location> {
    const relocation = this.#context.log.state.relocations.get(packKey(location.pack));
    if (relocation === undefined) return location;
    let moved: MovedRecords;
    try {
      moved = await this.readTable(relocation);
    } catch (error) {
      if (!isDamage(error)) throw error;
      return relocation.location;
    }
    return moved.at(location.offset) === undefined ? location : movedPlace(location, moved);
  }

  async #readOnce(kind: RecordKind, id: Uint8Array, location: Location): Promise<Uint8Array> {
    // Where tables are the log says: there is never a second step.
    const place = kind === RecordKind.relocation ? location : await this.locate(location);
    const { pack, offset, storedLength, codec, rawLength } = place;
    if (this.#gone.get(packKey(pack)) === this.#context.log.state.seq) {
      throw new BackupError('PACK_MISSING', `${packKey(pack)} is not there`);
    }
    const stored = await readPackBytes(this.target, pack, offset, storedLength, this.#signal);
    this.readBytes += stored.length;
    const { keys, format } = this.#context;
    return openRecord(keys, format.fanOut, { kind, id, codec, rawLength }, stored);
  }

  async #readTogether(
    wanted: readonly WantedRecord[],
    { pack, offset, end, placed }: Request,
    answers: (Uint8Array | BackupError | undefined)[],
  ): Promise<void> {
    const { keys, format } = this.#context;
    try {
      const bytes = await readPackBytes(this.target, pack, offset, end - offset, this.#signal);
      for (const { index, place } of placed) {
        const { kind, id } = wanted[index] as WantedRecord;
        const { codec, rawLength, storedLength } = place;
        await yieldToEventLoop();
        const stored = bytes.subarray(place.offset - offset, place.offset - offset + storedLength);
        this.readBytes += storedLength;
        try {
          answers[index] = openRecord(keys, format.fanOut, { kind, id, codec, rawLength }, stored);
        } catch (error) {
          if (!isDamage(error)) throw error; // Left open: it is looked at again.
        }
      }
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
  }

  async #lookForNews(pack: PackName): Promise<void> {
    if (this.#gone.get(packKey(pack)) === this.#context.log.state.seq) return;
    await this.#catchUp();
  }

  async #noteGone(error: BackupError, location: Location): Promise<void> {
    // A pack that is there and too short may have other records.
    if (!BackupError.is(error.cause, 'OBJECT_NOT_FOUND')) return;
    const { pack } = await this.culprit(location);
    this.#gone.set(packKey(pack), this.#context.log.state.seq);
  }

  #keep(key: string, moved: MovedRecords, length: number): void {
    this.#tables.set(key, { moved, bytes: length });
    this.#keptBytes += length;
    for (const [oldest, { bytes }] of this.#tables) {
      if (this.#keptBytes <= MAX_KEPT_BYTES || oldest === key) break;
      this.#tables.delete(oldest);
      this.#keptBytes -= bytes;
    }
  }
}

/** Where a record of a pack that was moved is now. @throws `MAP_CORRUPT` */
export function movedPlace(location: Location, moved: MovedRecords): Location {
  const to = moved.at(location.offset);
  if (to === undefined || to.storedLength !== location.storedLength) {
    const place = `${packKey(location.pack)} at ${location.offset}`;
    throw new BackupError('MAP_CORRUPT', `a map names ${place}, which was left behind when the pack was moved`);
  }
  return { ...location, pack: to.pack, offset: to.offset };
}

function* packsIn(rows: readonly RelocationRow[]): Steps<PackName[]> {
  const packs = new Map<string, PackName>();
  const steps = new StepCounter();
  for (const { to } of rows) {
    packs.set(packKey(to.pack), to.pack);
    if (steps.isDue()) yield;
  }
  return [...packs.values()];
}

interface Placed {
  readonly index: number;
  readonly place: Location;
}

interface Request {
  readonly pack: PackName;
  readonly offset: number;
  end: number;
  readonly placed: Placed[];
}

function* requestsOf(placed: readonly Placed[]): Generator<Request> {
  for (const records of Map.groupBy(placed, ({ place }) => packKey(place.pack)).values()) {
    records.sort((a, b) => a.place.offset - b.place.offset);
    let request: Request | undefined;
    for (const each of records) {
      const { pack, offset, storedLength } = each.place;
      const end = offset + storedLength;
      if (request !== undefined && offset - request.end <= MAX_GAP_BYTES && end - request.offset <= MAX_REQUEST_BYTES) {
        request.placed.push(each);
        request.end = Math.max(request.end, end);
        continue;
      }
      if (request !== undefined) yield request;
      request = { pack, offset, end, placed: [each] };
    }
    if (request !== undefined) yield request;
  }
}
