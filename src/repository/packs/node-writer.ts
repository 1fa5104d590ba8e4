import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import type { Location, RecordKind, RecordWriter } from '../format/record.ts';
import type { PackWriter } from './pack-writer.ts';
import { sealRecord } from './record-sealing.ts';

/** Seals nodes, runs and tables on this thread (they are few) and adds them to packs. */
export class NodeWriter implements RecordWriter {
  readonly #keys: RepositoryKeys;
  readonly #packs: PackWriter;

  constructor(keys: RepositoryKeys, packs: PackWriter) {
    this.#keys = keys;
    this.#packs = packs;
  }

  async write(kind: RecordKind, id: Uint8Array, raw: Uint8Array, hint: number): Promise<Location> {
    const { codec, bytes } = sealRecord(this.#keys.recordKey, { kind, id }, raw);
    return await this.#packs.add({ kind, id, codec, rawLength: raw.length, bytes, hint });
  }
}
