import { createHash } from 'node:crypto';
import { type AbortOptions, abortable } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import { hedgedHex } from '../../common/hedged-random.ts';
import { piecesOf, sha256InSteps } from '../../common/long-bytes.ts';
import { runInSteps, type Steps } from '../../common/yield-to-event-loop.ts';
import { getBounded } from '../../targets/bounded-get.ts';
import type { CloudTarget, PutOptions } from '../../targets/cloud-target.ts';
import type { PackRecord } from '../format/log-entry.ts';
import { packKey } from '../format/object-keys.ts';
import { type FooterRow, HEAD_BYTES, packHead, sealedFooterBytes, sealingFooter } from '../format/pack-footer.ts';
import type { Codec, Location, PackName, RecordKind } from '../format/record.ts';

export interface SealedRecord {
  readonly kind: RecordKind;
  readonly id: Uint8Array;
  readonly codec: Codec;
  readonly rawLength: number;
  /** Copied before the call returns. */
  readonly bytes: Uint8Array;
  readonly hint: number;
}

export interface PackWriterOptions {
  readonly target: CloudTarget;
  readonly session: number;
  /** The footer key of an encrypted repository. */
  readonly footerKey: Uint8Array | undefined;
  /** A pack is closed when the next record would take it past this, in bytes. */
  readonly packBytes: number;
  /** Packs on their way at one time, in addition to the one being filled. */
  readonly parallelPuts: number;
  /** Whether packs are created only where they are absent: `false` in a repository for a single writer. */
  readonly createOnly: boolean;
  /** Called when the store has acknowledged a pack: its records are safe. */
  readonly onStored?: ((pack: PackRecord, rows: readonly FooterRow[]) => void) | undefined;
  /** Called when more of a pack has been sent, by targets that report it. */
  readonly onSent?: (() => void) | undefined;
  /** Makes a put, and may repeat it. @defaultValue makes it once */
  readonly insist?: ((put: () => Promise<void>) => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Gathers sealed records into packs and sends them, a bounded number at a time. A pack's name is fresh randomness each
 * time a pack is begun, so nothing is ever overwritten. After a failure the writer accepts nothing more: its owner ends the
 * session, or stores what is missing through another writer.
 */
export class PackWriter {
  /** Packs that the store has acknowledged. */
  readonly stored: PackRecord[] = [];
  readonly #options: PackWriterOptions;
  readonly #sending = new Set<Promise<void>>();
  /** By key: the share of a pack on its way that has been sent, from 0 to 1. */
  readonly #shares = new Map<string, number>();
  /** Memory of packs that the store has, to be filled again: waiting for it to be collected would cost as much once more. */
  readonly #idle: Uint8Array<ArrayBuffer>[] = [];
  #filling: FillingPack | undefined;
  /** Whether the pack being filled is to be sent as soon as there is a turn for it. */
  #isHurried = false;
  #failure: { error: unknown } | undefined;

  constructor(options: PackWriterOptions) {
    this.#options = options;
  }

  /** The session that the packs belong to. */
  get session(): number {
    return this.#options.session;
  }

  /** The pack that has been begun and is not on its way yet. */
  get filling(): PackName | undefined {
    return this.#filling?.name;
  }

  /** How much of a pack has been sent: from 0 to 1 while it is on its way. */
  sentShare(key: string): number {
    return this.#shares.get(key) ?? 0;
  }

  /** Adds a record and resolves with its location. Waits while too many packs are on their way. */
  async add(record: SealedRecord): Promise<Location> {
    for (;;) {
      this.#throwFailure();
      // This is evaluated anew after every wait: other callers fill and close packs meanwhile.
      if (this.#filling?.hasRoom(record.bytes.length) === true) return this.#filling.add(record);
      this.#close();
      if (this.#sending.size < this.#options.parallelPuts) {
        const { session, packBytes } = this.#options;
        const least = HEAD_BYTES + record.bytes.length + sealedFooterBytes(1);
        const memory = least <= packBytes ? this.#idle.pop() : undefined;
        // Copies of one process may draw the same numbers: their packs have different names as soon as they begin differently.
        // @mutation pack-names-are-hedged
        const random = hedgedHex(16, this.#options.footerKey, session, record.id, record.bytes);
        this.#filling = new FillingPack({ session, random }, memory ?? new Uint8Array(Math.max(packBytes, least)));
      } else {
        await Promise.race(this.#sending);
      }
    }
  }

  /** Sends the pack that is being filled as soon as a put is free, however small it is. Does not wait. */
  hurry(): void {
    this.#isHurried = this.#filling !== undefined;
    this.#sendHurried();
  }

  /** Sends what has been gathered, and resolves when the store has everything. */
  async flush(): Promise<void> {
    this.#close();
    while (this.#sending.size > 0) await Promise.race(this.#sending);
    this.#throwFailure();
  }

  #close(): void {
    const pack = this.#filling;
    if (pack === undefined) return;
    this.#filling = undefined;
    this.#isHurried = false;
    const sending: Promise<void> = this.#send(pack)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#sending.delete(sending);
        this.#sendHurried();
      });
    this.#sending.add(sending);
  }

  #sendHurried(): void {
    if (this.#isHurried && this.#sending.size < this.#options.parallelPuts) this.#close();
  }

  async #send(pack: FillingPack): Promise<void> {
    const { footerKey, onStored, signal, insist = (put) => put() } = this.#options;
    const key = packKey(pack.name);
    const { bytes: body, sha256 } = await runInSteps(pack.finishing(footerKey));
    let attempts = 0;
    await insist(() => {
      attempts++;
      let sent = 0;
      const onSent = (bytes: number) => {
        sent += bytes;
        this.#shares.set(key, Math.min(1, sent / body.length));
        this.#options.onSent?.();
      };
      // A target that ignores the signal must not keep a job from ending.
      return abortable(this.#put({ key, bytes: body, sha256 }, onSent), signal);
    });
    this.#shares.delete(key);
    // Only now, and only if no put was rejected: a put that failed might still be reading the memory.
    if (attempts === 1 && pack.memory.length === this.#options.packBytes) this.#idle.push(pack.memory);
    const record: PackRecord = { random: pack.name.random, size: body.length, sha256 };
    this.stored.push(record);
    onStored?.(record, pack.rows);
  }

  async #put(pack: PackBody, onSent: (bytes: number) => void): Promise<void> {
    const { target, createOnly, signal } = this.#options;
    const options = { signal, onSent };
    await (createOnly ? createPack(target, pack, options) : target.put(pack.key, pack.bytes, options));
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** Most rows of a pack's footer; a reader accepts more. Packs of tiny records are full before their bytes are. */
const MOST_ROWS = 2 ** 16;

class FillingPack {
  readonly name: PackName;
  readonly rows: FooterRow[] = [];
  readonly memory: Uint8Array<ArrayBuffer>;
  #used = HEAD_BYTES;

  constructor(name: PackName, memory: Uint8Array<ArrayBuffer>) {
    this.name = name;
    this.memory = memory;
    memory.set(packHead());
  }

  hasRoom(recordBytes: number): boolean {
    const rows = this.rows.length + 1;
    return rows <= MOST_ROWS && this.#used + recordBytes + sealedFooterBytes(rows) <= this.memory.length;
  }

  add({ kind, id, codec, rawLength, bytes, hint }: SealedRecord): Location {
    const offset = this.#used;
    this.memory.set(bytes, offset);
    this.#used += bytes.length;
    // Ids are often views of buffers that their owners fill again.
    this.rows.push({ kind, id: Uint8Array.from(id), offset, storedLength: bytes.length, codec, rawLength, hint });
    return { pack: this.name, offset, storedLength: bytes.length, codec, rawLength };
  }

  /** The whole pack and its SHA-256. All bytes are hashed once: the body's digest is one on the way to the whole pack's. */
  *finishing(footerKey: Uint8Array | undefined): Steps<Omit<PackBody, 'key'>> {
    const hash = createHash('sha256');
    const body = this.memory.subarray(0, this.#used);
    for (const [, piece] of piecesOf(body)) {
      hash.update(piece);
      yield;
    }
    const bodySha256 = hash.copy().digest();
    const footer = yield* sealingFooter({ rows: this.rows, bodyBytes: body.length, bodySha256 }, this.name, footerKey);
    this.memory.set(footer, body.length);
    for (const [, piece] of piecesOf(footer)) {
      hash.update(piece);
      yield;
    }
    const bytes = this.memory.subarray(0, body.length + footer.length);
    return { bytes, sha256: new Uint8Array(hash.digest()) };
  }
}

interface PackBody {
  readonly key: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sha256: Uint8Array;
}

/**
 * Creates a pack where there is none. If the name is taken, the pack may be this writer's own (an answer was lost). It is accepted
 * only if length and content are the same: a copy of this process (a machine that was cloned while it ran) may write in the
 * same session and draw the same random numbers. Its pack is neither overwritten nor mistaken for this writer's.
 *
 * @throws `SESSION_SHARED` if another object has the name; what the target throws
 */
async function createPack(target: CloudTarget, pack: PackBody, options: PutOptions): Promise<void> {
  const { key, bytes } = pack;
  try {
    // @mutation packs-are-created
    await target.put(key, bytes, { ...options, createOnly: true });
  } catch (error) {
    if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    // @mutation pack-is-the-same
    if (await isSame(target, pack, { signal: options.signal })) return;
    const message = `${key} already exists with other content: a copy of this process is writing in the same session; start the backup again`;
    throw new BackupError('SESSION_SHARED', message, { cause: error, retryable: true });
  }
}

async function isSame(target: CloudTarget, { key, bytes, sha256 }: PackBody, options: AbortOptions): Promise<boolean> {
  const info = await target.stat(key, options);
  if (info?.size !== bytes.length) return false;
  if (info.sha256 !== undefined) return info.sha256 === Buffer.from(sha256).toString('hex');
  const found = await getBounded(target, key, bytes.length, options);
  return found !== undefined && Buffer.compare(await runInSteps(sha256InSteps(found)), sha256) === 0;
}
