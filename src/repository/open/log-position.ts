import { bytesArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { anchorsIn } from '../format/anchors.ts';
import { MAX_SEQ } from '../format/object-keys.ts';
import type { LogPosition } from '../log/log-source.ts';

/** Positions of the log, as hosts keep them: as text for a file or a database column, and checked when they come back. */

const HASH_BYTES = 32;
const TEXT = /^([0-9]{1,16})-([0-9a-f]{64})(?:-([A-Za-z0-9_-]+))?$/;

/**
 * Formats a position as text, for the host to store and to pass to `open` as `remembered`: the number of the entry, a hyphen,
 * and its hash in hex; then, if the position has anchors, a hyphen and these in base64url, some 1,600 characters in all.
 *
 * @example
 * ```ts
 * await writeFile('position', formatPosition(repository.position));
 * const remembered = await readFile('position', 'utf8'); // the next time
 * await BackupRepository.open(target, { unlock, remembered });
 * ```
 *
 * @throws TypeError for a value that is not a position
 * @public
 */
export function formatPosition(position: LogPosition): string {
  const { seq, hash, anchors } = checkedPosition('position', position);
  const text = `${seq}-${Buffer.from(hash).toString('hex')}`;
  return anchors === undefined || anchors.length === 0 ? text : `${text}-${Buffer.from(anchors).toString('base64url')}`;
}

/**
 * Parses the text that {@link formatPosition} has made. White space around it is ignored.
 *
 * @throws TypeError for any other text
 * @public
 */
export function parsePosition(text: string): LogPosition {
  if (typeof text !== 'string') throw new TypeError('text must be a string');
  return parsed('text', text);
}

/** @throws TypeError for a value that is neither a position nor its text */
export function positionArgument(name: string, value: unknown): LogPosition {
  return typeof value === 'string' ? parsed(name, value) : checkedPosition(name, value as LogPosition);
}

function parsed(name: string, text: string): LogPosition {
  const [, seq, hash, anchors] = TEXT.exec(text.trim()) ?? [];
  if (seq === undefined || hash === undefined || Number(seq) > MAX_SEQ) {
    throw new TypeError(
      `${name} must be a text from formatPosition: a number, a hyphen, 64 hex digits, and its anchors`,
    );
  }
  const position = { seq: Number(seq), hash: Uint8Array.from(Buffer.from(hash, 'hex')) };
  if (anchors === undefined) return position;
  return checkedPosition(name, { ...position, anchors: Uint8Array.from(Buffer.from(anchors, 'base64url')) });
}

function checkedPosition(name: string, value: LogPosition): LogPosition {
  if (value === undefined) throw new TypeError(`${name} must be a position`);
  const known = { seq: true, hash: true, anchors: true } as const;
  const { seq, hash, anchors } = optionsArgument<LogPosition>(name, value, known);
  integerArgument(`${name}.seq`, seq, 0, MAX_SEQ);
  if (bytesArgument(`${name}.hash`, hash).length !== HASH_BYTES) {
    throw new TypeError(`${name}.hash must have ${HASH_BYTES} bytes`);
  }
  const position = { seq, hash: Uint8Array.from(hash) };
  if (anchors === undefined) return position;
  bytesArgument(`${name}.anchors`, anchors);
  if (anchorsIn(anchors, seq, position.hash) === undefined) {
    throw new TypeError(`${name}.anchors must be those of the position: they are of another entry, or cut`);
  }
  return { ...position, anchors: Uint8Array.from(anchors) };
}
