import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { RepositoryKeys } from '../crypto/repository-keys.ts';
import type { Location, RecordKind, RecordReader } from '../format/record.ts';
import { readPackBytes } from './pack-reader.ts';
import { openRecord } from './record-sealing.ts';

/** What it takes to read a repository's records. */
export interface RecordSource {
  readonly target: CloudTarget;
  readonly keys: RepositoryKeys;
  readonly fanOut: number;
}

/** Records as they stand in a target's packs, opened and checked against their ids, a request each. */
export class StoredRecords implements RecordReader {
  readonly #source: RecordSource;

  constructor(source: RecordSource) {
    this.#source = source;
  }

  async read(
    kind: RecordKind,
    id: Uint8Array,
    location: Location,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Uint8Array> {
    const { target, keys, fanOut } = this.#source;
    const { pack, offset, storedLength, codec, rawLength } = location;
    const stored = await readPackBytes(target, pack, offset, storedLength, options.signal);
    return openRecord(keys, fanOut, { kind, id, codec, rawLength }, stored);
  }
}
