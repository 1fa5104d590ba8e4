import { decodeMsgpack, encodeMsgpack } from '../../../../src/common/msgpack.ts';
import { encodeMsgpackInSteps, MsgpackMap } from '../../../../src/common/msgpack-writer.ts';
import { runAtOnce } from '../../../../src/common/yield-to-event-loop.ts';
import { idBytes } from '../../../../src/repository/format/decode-values.ts';
import {
  type DecodedEntry,
  decodingEntry,
  encodingEntry,
  MAX_ENTRY_BYTES,
  type TailEntry,
  tailOf,
} from '../../../../src/repository/format/entry-codec.ts';
import { factPlain } from '../../../../src/repository/format/fact-codec.ts';
import { encodingInnerNode } from '../../../../src/repository/format/inner-node.ts';
import type { LogEntry } from '../../../../src/repository/format/log-entry.ts';
import { openingFooter, sealingFooter } from '../../../../src/repository/format/pack-footer.ts';
import { decodingPackTable, encodingPackTable } from '../../../../src/repository/format/pack-table-record.ts';
import { compressContent, readContent } from '../../../../src/repository/format/packed-content.ts';
import {
  decodingRelocationTable,
  encodingRelocationTable,
} from '../../../../src/repository/format/relocation-table.ts';
import { encodingRunChunk } from '../../../../src/repository/format/run-chunk.ts';

/** Encoders and decoders that work in steps, without the turns between them: for short objects. */

export function decodeEntry(...given: Parameters<typeof decodingEntry>): DecodedEntry {
  return runAtOnce(decodingEntry(...given));
}

export function encodeEntry(
  ...given: Parameters<typeof encodingEntry>
): DecodedEntry & { bytes: Uint8Array<ArrayBuffer> } {
  return runAtOnce(encodingEntry(...given));
}

/** What later entries may repeat of entries, newest first. */
export function tailEntries(entries: readonly LogEntry[]): readonly TailEntry[] {
  return runAtOnce(tailOf(entries));
}

/** The body of an entry's object. */
export function entryBody(fields: unknown): Uint8Array {
  return compressContent(encodeMsgpack(fields));
}

/** The fields in such a body. */
export function fieldsOfEntry(body: Uint8Array): Record<string, unknown> {
  return decodeMsgpack(readContent(body, 'an entry', MAX_ENTRY_BYTES), 'LOG_CORRUPT') as Record<string, unknown>;
}

/** An entry as plain values, for tests that change some of them. */
export function entryPlain(entry: LogEntry): Record<string, unknown> {
  const { seq, prev, commitId, at } = entry;
  const fields = new MsgpackMap({ v: 1, seq, prev, id: idBytes(commitId), at, ...factPlain(entry) });
  return decodeMsgpack(runAtOnce(encodeMsgpackInSteps(fields)), 'LOG_CORRUPT') as Record<string, unknown>;
}

export const sealFooter = (...given: Parameters<typeof sealingFooter>) => runAtOnce(sealingFooter(...given));
export const openFooter = (...given: Parameters<typeof openingFooter>) => runAtOnce(openingFooter(...given));
export const encodePackTable = (...given: Parameters<typeof encodingPackTable>) =>
  runAtOnce(encodingPackTable(...given));
export const decodePackTable = (...given: Parameters<typeof decodingPackTable>) =>
  runAtOnce(decodingPackTable(...given));
export const encodeRelocationTable = (...given: Parameters<typeof encodingRelocationTable>) =>
  runAtOnce(encodingRelocationTable(...given));
export const decodeRelocationTable = (...given: Parameters<typeof decodingRelocationTable>) =>
  runAtOnce(decodingRelocationTable(...given));
export const encodeInnerNode = (...given: Parameters<typeof encodingInnerNode>) =>
  runAtOnce(encodingInnerNode(...given));
export const encodeRunChunk = (...given: Parameters<typeof encodingRunChunk>) => runAtOnce(encodingRunChunk(...given));
