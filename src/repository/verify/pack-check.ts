import { createHash } from 'node:crypto';
import { BackupError, isDamage } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import { sortInSteps } from '../../common/sort-in-steps.ts';
import { yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { ProgressReporter } from '../context/progress.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import type { PackRecord } from '../format/log-entry.ts';
import { packKey } from '../format/object-keys.ts';
import { type FooterRow, packHead } from '../format/pack-footer.ts';
import type { PackName } from '../format/record.ts';
import { readPackBytes, readPackFooter } from '../packs/pack-reader.ts';
import { openRecord } from '../packs/record-sealing.ts';
import { storedIn } from '../packs/record-spans.ts';
import type { PackListing } from '../prune/pack-listing.ts';
import { type Damage, type DamageReport, packCorrupt } from './damage-report.ts';
import type { VerifiedTimes } from './earlier-verifications.ts';
import type { LoggedPacks } from './log-audit.ts';
import type { NeededPacks } from './needed-packs.ts';

/** Looks at the packs that maps need: whether they are there, and whether they hold what they should. */

/** A pack, and what the log says about it. */
export interface ExpectedPack {
  readonly pack: PackName;
  /** Its length in a listing. */
  readonly listedBytes: number;
  readonly logged: Pick<PackRecord, 'size' | 'sha256'> | undefined;
}

const CHUNK_BYTES = 4 * 1024 * 1024;
/** In addition to the one that is being checked. */
const CHUNKS_AHEAD = 2;

/**
 * Downloads a pack in pieces and checks all of it: its SHA-256 against the log's, its footer, and every record against its id.
 *
 * @param onBytes - called for every piece
 * @returns the damage, `undefined` if there is none
 * @throws errors of the target that say nothing about the pack
 */
export async function checkPack(
  context: RepositoryContext,
  target: CloudTarget,
  expected: ExpectedPack,
  options: { readonly signal: AbortSignal | undefined; readonly onBytes: (bytes: number) => void },
): Promise<Damage | undefined> {
  const { pack, listedBytes, logged } = expected;
  const fault = lengthFault(expected);
  if (fault !== undefined) return { ...fault, areUnsure: true };
  const { signal } = options;
  try {
    const { rows, bodyBytes, bodySha256 } = await readPackFooter(
      target,
      pack,
      listedBytes,
      context.keys.footerKey,
      signal,
    );
    const bad = new Set<number>();
    let firstError: BackupError | undefined;
    const note = (error: BackupError, offset?: number) => {
      firstError ??= error;
      if (offset !== undefined) bad.add(offset);
    };
    const hash = createHash('sha256');
    const read = async (chunk: Chunk) => ({
      ...chunk,
      bytes: await readPackBytes(target, pack, chunk.start, chunk.end - chunk.start, signal),
    });
    for await (const { start, bytes, rows: inChunk } of mapConcurrently(
      chunksOf(rows, bodyBytes, listedBytes),
      read,
      CHUNKS_AHEAD,
    )) {
      signal?.throwIfAborted();
      if (start === bodyBytes && Buffer.compare(hash.copy().digest(), bodySha256) !== 0) {
        note(packCorrupt(pack, 'its records are not those that its footer is of'));
      }
      hash.update(bytes);
      if (start === 0 && Buffer.compare(bytes.subarray(0, packHead().length), packHead()) !== 0) {
        note(packCorrupt(pack, 'it does not begin as a pack does'));
      }
      for (const row of inChunk) {
        await yieldToEventLoop();
        const error = recordFault(context, row, storedIn({ offset: start }, row, bytes));
        if (error !== undefined) note(error, row.offset);
      }
      options.onBytes(bytes.length);
    }
    // The whole object may be another pack, sound in itself.
    const isAnother = logged !== undefined && Buffer.compare(hash.digest(), logged.sha256) !== 0;
    if (isAnother) note(packCorrupt(pack, 'its bytes are not those that were stored'));
    return firstError && { pack, error: firstError, offsets: bad, areUnsure: isAnother };
  } catch (error) {
    if (!isDamage(error)) throw error;
    const isMissing = BackupError.is(error.cause, 'OBJECT_NOT_FOUND');
    return { pack, error, isMissing, areUnsure: !isMissing };
  }
}

/** Damage that the length of an object shows. */
export function lengthFault({ pack, listedBytes, logged }: ExpectedPack): Damage | undefined {
  if (logged === undefined || logged.size === listedBytes) return undefined;
  const how = `it has ${listedBytes} bytes, and ${logged.size} were stored`;
  return { pack, error: packCorrupt(pack, how), end: listedBytes };
}

function recordFault({ keys, format }: RepositoryContext, row: FooterRow, stored: Uint8Array): BackupError | undefined {
  try {
    openRecord(keys, format.fanOut, row, stored);
    return undefined;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return error;
  }
}

interface Chunk {
  readonly start: number;
  readonly end: number;
  readonly rows: readonly FooterRow[];
}

/** Cuts a pack into pieces of whole records, which together are its body, and one of what follows. */
function* chunksOf(rows: Iterable<FooterRow>, bodyBytes: number, packBytes: number): Generator<Chunk> {
  let start = 0;
  let end = 0;
  let inChunk: FooterRow[] = [];
  for (const row of rows) {
    const rowEnd = row.offset + row.storedLength;
    if (inChunk.length > 0 && rowEnd - (inChunk[0] as FooterRow).offset > CHUNK_BYTES) {
      yield { start, end, rows: inChunk };
      start = end;
      inChunk = [];
    }
    inChunk.push(row);
    end = rowEnd;
  }
  if (inChunk.length > 0) {
    yield { start, end, rows: inChunk };
    start = end;
  }
  if (start < bodyBytes) yield { start, end: bodyBytes, rows: [] }; // A pack without records is its head.
  yield { start: bodyBytes, end: packBytes, rows: [] };
}

export interface PackChecksParts {
  readonly context: RepositoryContext;
  /** The context's, with calls that are tried again. */
  readonly target: CloudTarget;
  readonly damages: DamageReport;
  readonly progress: ProgressReporter;
  readonly signal: AbortSignal;
  /** After how many verified packs it is noted which they are. @defaultValue 64 */
  readonly saveEveryPacks?: number | undefined;
}

const PACKS_AT_A_TIME = 3;
const STATS_AT_A_TIME = 32;
/** 2 GiB, if packs have their default size. */
const SAVE_EVERY_PACKS = 64;

/** Checks packs one by one, by the store's checksums or by all of their data, and counts them. */
export class PackChecks {
  verifiedBytes = 0;
  verifiedPacks = 0;
  withoutChecksum = 0;
  /** Packs that were read in full and are good. */
  readonly good: PackName[] = [];
  readonly #parts: PackChecksParts;

  constructor(parts: PackChecksParts) {
    this.#parts = parts;
  }

  /** Compares the store's checksums with the log's. A pack that differs is downloaded, to see what is wrong with it. */
  async checkSums(expected: readonly ExpectedPack[], needed: NeededPacks): Promise<void> {
    const total = expected.reduce((sum, { listedBytes }) => sum + listedBytes, 0);
    this.#parts.progress.begin('checksums', total);
    const keepsSums = this.#parts.target.capabilities.checksums === true;
    const check = async (each: ExpectedPack) => {
      const { pack, logged, listedBytes } = each;
      const key = packKey(pack);
      const info = keepsSums ? await this.#parts.target.stat(key, { signal: this.#parts.signal }) : undefined;
      this.#parts.progress.advance(listedBytes);
      if (info?.sha256 === undefined || logged === undefined) {
        if (keepsSums) await needed.checkFooter(pack);
        this.withoutChecksum++;
        return;
      }
      if (info.sha256 === Buffer.from(logged.sha256).toString('hex')) {
        if (this.#parts.damages.has(key)) return;
        this.verifiedPacks++;
        this.verifiedBytes += listedBytes;
        return;
      }
      if (await this.#isGood(each, false)) this.withoutChecksum++; // The store's checksum is of something else.
    };
    for await (const _ of mapConcurrently(expected, check, STATS_AT_A_TIME)) this.#parts.signal.throwIfAborted();
  }

  async checkData(wanted: readonly ExpectedPack[], times: VerifiedTimes, listing: PackListing): Promise<void> {
    const total = wanted.reduce((sum, { listedBytes }) => sum + listedBytes, 0);
    this.#parts.progress.begin('data', total);
    const order = await sortInSteps(
      wanted.map((each) => ({ ...each, at: times.of(each.pack) })),
      (a, b) => a.at - b.at,
    );
    const saveEvery = this.#parts.saveEveryPacks ?? SAVE_EVERY_PACKS;
    const check = async (each: ExpectedPack) => ({ ...each, isGood: await this.#isGood(each, true) });
    let unsaved = 0;
    for await (const { pack, listedBytes, isGood } of mapConcurrently(order, check, PACKS_AT_A_TIME)) {
      this.#parts.signal.throwIfAborted();
      if (!isGood || this.#parts.damages.has(packKey(pack))) continue; // It stays among the packs that come first the next time.
      this.good.push(pack);
      this.verifiedPacks++;
      this.verifiedBytes += listedBytes;
      times.note(pack, this.#parts.context.now());
      if (++unsaved >= saveEvery) {
        unsaved = 0;
        await this.#save(times, listing);
      }
    }
    await this.#save(times, listing);
  }

  async #save(times: VerifiedTimes, listing: PackListing): Promise<void> {
    if (!this.#parts.context.readOnly) await times.save(listing.packs);
  }

  /** Downloads a pack, and a second time before damage is believed. */
  async #isGood(expected: ExpectedPack, isCounted: boolean): Promise<boolean> {
    const signal = this.#parts.signal;
    for (let look = 1; ; look++) {
      const onBytes = (bytes: number) => this.#parts.progress.advance(look === 1 && isCounted ? bytes : 0);
      const damage = await checkPack(this.#parts.context, this.#parts.target, expected, { signal, onBytes });
      if (damage === undefined) return true;
      if (look < 2) continue;
      this.#parts.damages.add(damage);
      return false;
    }
  }
}

/** Every pack that is needed and is there. Reports those that are missing or have another length than they had. */
export async function expectedPacks(
  needed: NeededPacks,
  listing: PackListing,
  logged: LoggedPacks,
  { target, damages, signal }: Pick<PackChecksParts, 'target' | 'damages' | 'signal'>,
): Promise<ExpectedPack[]> {
  const expected: ExpectedPack[] = [];
  const look = async (pack: PackName) => {
    const key = packKey(pack);
    let listedBytes = listing.sizeOf(key);
    if (listedBytes === 0) {
      // A listing misses what was stored after it, and may be wrong.
      const info = await target.stat(key, { signal });
      if (info === undefined) {
        damages.add({ pack, error: new BackupError('PACK_MISSING', `${key} is not there`), isMissing: true });
        return;
      }
      listedBytes = info.size;
    }
    const each = { pack, listedBytes, logged: logged.get(key) };
    const fault = lengthFault(each);
    if (fault !== undefined) damages.add(fault);
    else if (needed.endOf(key) > listedBytes) {
      const error = packCorrupt(pack, `it has ${listedBytes} bytes, and maps name more`);
      damages.add({ pack, error, end: listedBytes });
    }
    expected.push(each);
  };
  for await (const _ of mapConcurrently([...needed.packs()], look, STATS_AT_A_TIME)) signal.throwIfAborted();
  return expected;
}
