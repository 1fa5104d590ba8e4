import { bytesArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { MAX_SEQ } from '../format/object-keys.ts';
import type { LogPosition } from '../log/log-source.ts';

/** Positions of the log, as hosts keep them: as text for a file or a database column, and checked when they come back. */

const HASH_BYTES = 32;
const TEXT = /^([0-9]{1,16})-([0-9a-f]{64})$/;

/**
 * Formats a position as text, for the host to store and to pass to `open` as `remembered`: the number of the entry, a hyphen,
 * and its hash in hex.
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
  const { seq, hash } = checkedPosition('position', position);
  return `${seq}-${Buffer.from(hash).toString('hex')}`;
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
  const [, seq, hash] = TEXT.exec(text.trim()) ?? [];
  if (seq === undefined || hash === undefined || Number(seq) > MAX_SEQ) {
    throw new TypeError(`${name} must be a text from formatPosition: a number, a hyphen and 64 hex digits`);
  }
  return { seq: Number(seq), hash: Uint8Array.from(Buffer.from(hash, 'hex')) };
}

function checkedPosition(name: string, value: LogPosition): LogPosition {
  if (value === undefined) throw new TypeError(`${name} must be a position`);
  const { seq, hash } = optionsArgument<LogPosition>(name, value, { seq: true, hash: true });
  integerArgument(`${name}.seq`, seq, 0, MAX_SEQ);
  if (bytesArgument(`${name}.hash`, hash).length !== HASH_BYTES) {
    throw new TypeError(`${name}.hash must have ${HASH_BYTES} bytes`);
  }
  return { seq, hash: Uint8Array.from(hash) };
}
