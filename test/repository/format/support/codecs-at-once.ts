import { decodeMsgpack } from '../../../../src/common/msgpack.ts';
import { encodeMsgpackInSteps, MsgpackMap } from '../../../../src/common/msgpack-writer.ts';
import { runAtOnce } from '../../../../src/common/yield-to-event-loop.ts';
import { idBytes } from '../../../../src/repository/format/decode-values.ts';
import { type DecodedEntry, decodingEntry, encodingEntry } from '../../../../src/repository/format/entry-codec.ts';
import { factPlain } from '../../../../src/repository/format/fact-codec.ts';
import type { LogEntry } from '../../../../src/repository/format/log-entry.ts';

/** The codec of entries, without waiting. */

export function decodeEntry(...given: Parameters<typeof decodingEntry>): DecodedEntry {
  return runAtOnce(decodingEntry(...given));
}

export function encodeEntry(
  ...given: Parameters<typeof encodingEntry>
): DecodedEntry & { bytes: Uint8Array<ArrayBuffer> } {
  return runAtOnce(encodingEntry(...given));
}

/** An entry as plain values, for tests that change some of them. */
export function entryPlain(entry: LogEntry): Record<string, unknown> {
  const { seq, prev, commitId, at } = entry;
  const fields = new MsgpackMap({ v: 1, seq, prev, id: idBytes(commitId), at, ...factPlain(entry) });
  return decodeMsgpack(runAtOnce(encodeMsgpackInSteps(fields)), 'LOG_CORRUPT') as Record<string, unknown>;
}
