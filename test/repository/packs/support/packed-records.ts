import type { AbortOptions } from '../../../../src/common/abort.ts';
import { RepositoryKeys } from '../../../../src/repository/crypto/repository-keys.ts';
import type { Relocation } from '../../../../src/repository/format/log-entry.ts';
import { EMPTY_STATE, type LogState } from '../../../../src/repository/format/log-state.ts';
import type { MappedBlock } from '../../../../src/repository/format/map-descriptor.ts';
import { packKey } from '../../../../src/repository/format/object-keys.ts';
import { type Location, type PackName, RecordKind } from '../../../../src/repository/format/record.ts';
import { PackWriter } from '../../../../src/repository/packs/pack-writer.ts';
import { sealRecord } from '../../../../src/repository/packs/record-sealing.ts';
import { RecordStore, type RecordStoreParts } from '../../../../src/repository/packs/record-store.ts';
import type { CloudTarget, GetOptions } from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { randomBytes } from '../../../support/randomness.ts';
import { encodeRelocationTable } from '../../format/support/codecs-at-once.ts';

/** Records in packs, a log that is what a test says, and a store that reads them. */

export const FAN_OUT = 8;
export const BLOCK = 64 * 1024;

/** Notes every `get`, as `<pack> <offset>+<length>`, and how many were under way at once. */
export class WatchedTarget extends ForwardingTarget {
  readonly gets: string[] = [];
  readonly signals: (AbortSignal | undefined)[] = [];
  most = 0;
  mostBytes = 0;
  /** Runs before a `get` is answered. */
  before: (key: string, options: GetOptions) => Promise<unknown> | unknown = () => {};
  #active = 0;
  #activeBytes = 0;

  constructor(inner: CloudTarget) {
    super(inner, 'this WatchedTarget');
  }

  protected override async forwardGet(key: string, options: GetOptions): Promise<Uint8Array> {
    const { offset, length } = options.range ?? { offset: 0, length: 0 };
    this.gets.push(`${key} ${offset}+${length}`);
    this.signals.push(options.signal);
    this.most = Math.max(this.most, ++this.#active);
    this.#activeBytes += length;
    this.mostBytes = Math.max(this.mostBytes, this.#activeBytes);
    try {
      await this.before(key, options);
      return await this.inner.get(key, options);
    } finally {
      this.#active--;
      this.#activeBytes -= length;
    }
  }
}

export interface Stored {
  readonly raw: Uint8Array;
  readonly id: Uint8Array;
  readonly location: Location;
}

/** A repository without a log: the state is what a test makes it. */
export class Packed {
  readonly objects = new MemoryTarget();
  readonly target = new WatchedTarget(this.objects);
  readonly keys: RepositoryKeys;
  state: LogState = EMPTY_STATE;
  /** What `catchUp` learns, one after the other. */
  readonly later: LogState[] = [];
  looks = 0;
  readonly store: RecordStore;

  constructor({ isEncrypted = false, ...options }: { isEncrypted?: boolean } & Partial<RecordStoreParts> = {}) {
    this.keys = isEncrypted
      ? RepositoryKeys.encrypted(new Uint8Array(32).fill(9), new Uint8Array(16))
      : RepositoryKeys.plain();
    this.store = new RecordStore({
      target: this.target,
      keys: this.keys,
      fanOut: FAN_OUT,
      ...options,
      state: () => this.state,
      catchUp: async ({ signal }: AbortOptions) => {
        signal?.throwIfAborted();
        this.looks++;
        this.state = this.later.shift() ?? this.state;
        return this.state;
      },
    });
  }

  /** One pack of records. */
  async pack(raws: readonly Uint8Array[], kind: RecordKind = RecordKind.block): Promise<Stored[]> {
    const writer = this.#writer();
    const stored: Stored[] = [];
    for (const raw of raws) {
      const id = kind === RecordKind.block ? this.keys.contentId(raw) : this.keys.recordId(kind, raw);
      const { codec, bytes } = sealRecord(this.keys.recordKey, { kind, id }, raw);
      const location = await writer.add({ kind, id, codec, rawLength: raw.length, bytes, hint: 0 });
      stored.push({ raw, id, location });
    }
    await writer.flush();
    return stored;
  }

  /** One pack of blocks of random content, and what a map says of them. */
  async blocks(count: number, blockBytes = BLOCK): Promise<{ wanted: MappedBlock[]; raws: Uint8Array[] }> {
    const raws = Array.from({ length: count }, () => Uint8Array.from(randomBytes(blockBytes)));
    const stored = await this.pack(raws);
    return { wanted: stored.map((entry, block) => ({ block, entry })), raws };
  }

  /** Copies records into a new pack, behind something else, with a table: what the log would say of it. */
  async move(
    records: readonly { readonly location: Location; readonly id: Uint8Array }[],
    from: readonly Location[] = records.map(({ location }) => location),
  ): Promise<{ relocation: Relocation; places: Location[] }> {
    const writer = this.#writer();
    const filler = Uint8Array.from(randomBytes(1000));
    const sealed = {
      kind: RecordKind.block,
      id: this.keys.contentId(filler),
      codec: 0,
      rawLength: 1000,
      hint: 0,
    } as const;
    await writer.add({ ...sealed, bytes: filler });
    const places: Location[] = [];
    for (const { id, location } of records) {
      const { codec, rawLength, storedLength, offset } = location;
      const object = await this.objects.get(packKey(location.pack));
      const bytes = object.slice(offset, offset + storedLength);
      places.push(await writer.add({ kind: RecordKind.block, id, codec, rawLength, bytes, hint: 0 }));
    }
    const rows = places.map((to, index) => ({ offset: (from[index] as Location).offset, to }));
    const raw = encodeRelocationTable(rows.sort((a, b) => a.offset - b.offset));
    const id = this.keys.recordId(RecordKind.relocation, raw);
    const { codec, bytes } = sealRecord(this.keys.recordKey, { kind: RecordKind.relocation, id }, raw);
    await writer.flush();
    const tables = this.#writer();
    const head = { kind: RecordKind.relocation, id, codec, rawLength: raw.length, bytes, hint: 0 } as const;
    const location = await tables.add(head);
    await tables.flush();
    return { relocation: { pack: (from[0] as Location).pack, id, location }, places };
  }

  /** What is true once packs have been moved. */
  moved(...relocations: readonly Relocation[]): LogState {
    const seq = (this.later.at(-1) ?? this.state).seq + 1;
    return { ...this.state, seq, relocations: new Map(relocations.map((each) => [packKey(each.pack), each])) };
  }

  drop(pack: PackName): Promise<void> {
    return this.objects.delete(packKey(pack));
  }

  /** Changes a pack behind everybody's back. */
  async spoil(pack: PackName, change: (bytes: Uint8Array) => Uint8Array): Promise<void> {
    const bytes = await this.objects.get(packKey(pack));
    await this.objects.put(packKey(pack), Uint8Array.from(change(bytes)));
  }

  #writer(): PackWriter {
    const { objects, keys } = this;
    return new PackWriter({
      target: objects,
      session: 1,
      footerKey: keys.footerKey,
      createOnly: true,
      packBytes: 48 * 1024 * 1024,
      parallelPuts: 1,
    });
  }
}

/** What was delivered, by block. */
export function collector() {
  const blocks = new Map<number, Uint8Array>();
  const deliver = (block: number, bytes: Uint8Array) => {
    if (blocks.has(block)) throw new Error(`block ${block} was delivered twice`);
    blocks.set(block, bytes.slice());
  };
  return { blocks, deliver, tally: { fetchedBytes: 0, requests: 0 } };
}
