import { bytesArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';
import { MAX_SEQ } from '../format/object-keys.ts';
import type { LogPosition } from '../log/log-source.ts';

/** Positions of the log as hosts keep them: checked where they come in, and as text that goes into a file or a column. */

const HASH_BYTES = 32;
const TEXT = /^([0-9]{1,16})-([0-9a-f]{64})$/;

/**
 * A position as text, to be stored by the host and given to `open` as `remembered`: the number of the entry, a hyphen, and
 * its hash in hex.
 *
 * @example
 * ```ts
 * await writeFile('position', formatPosition(repository.position));
 * const remembered = await readFile('position', 'utf8'); // the next time
 * await BackupRepository.open(target, { unlock, remembered });
 * ```
 *
 * @throws TypeError for what is no position
 * @public
 */
export function formatPosition(position: LogPosition): string {
  const { seq, hash } = checkedPosition('position', position);
  return `${seq}-${Buffer.from(hash).toString('hex')}`;
}

/**
 * The position that {@link formatPosition} made a text of. White space around it is left out.
 *
 * @throws TypeError for a text that is none
 * @public
 */
export function parsePosition(text: string): LogPosition {
  if (typeof text !== 'string') throw new TypeError('text must be a string');
  return parsed('text', text);
}

/** @throws TypeError for what is neither a position nor its text */
export function positionArgument(name: string, value: unknown): LogPosition {
  return typeof value === 'string' ? parsed(name, value) : checkedPosition(name, value as LogPosition);
}

function parsed(name: string, text: string): LogPosition {
  const [, seq, hash] = TEXT.exec(text.trim()) ?? [];
  if (seq === undefined || hash === undefined || Number(seq) > MAX_SEQ) {
    throw new TypeError(`${name} must be the text that formatPosition gives, as "12-" and 64 hex digits`);
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
