import { decodePlain } from '../../../../src/common/bounded-msgpack.ts';
import { atOnce } from '../../../../src/common/event-loop-turns.ts';
import { encodingPlain, PlainFields } from '../../../../src/common/plain-writer.ts';
import { idBytes } from '../../../../src/repository/format/decode-values.ts';
import { type DecodedEntry, decodingEntry, encodingEntry } from '../../../../src/repository/format/entry-codec.ts';
import { factPlain } from '../../../../src/repository/format/fact-codec.ts';
import type { LogEntry } from '../../../../src/repository/format/log-entry.ts';

/** The codec of entries, without waiting. */

export function decodeEntry(...given: Parameters<typeof decodingEntry>): DecodedEntry {
  return atOnce(decodingEntry(...given));
}

export function encodeEntry(
  ...given: Parameters<typeof encodingEntry>
): DecodedEntry & { bytes: Uint8Array<ArrayBuffer> } {
  return atOnce(encodingEntry(...given));
}

/** An entry as plain values, for tests that change some of them. */
export function entryPlain(entry: LogEntry): Record<string, unknown> {
  const { seq, prev, commitId, at } = entry;
  const fields = new PlainFields({ v: 1, seq, prev, id: idBytes(commitId), at, ...factPlain(entry) });
  return decodePlain(atOnce(encodingPlain(fields)), 'LOG_CORRUPT') as Record<string, unknown>;
}
