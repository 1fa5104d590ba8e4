/** Keys of log objects: `docs/FORMAT.md`, section 1. */

export const LOG_PREFIX = 'log/';
/** The largest sequence. */
export const MAX_SEQ = 2 ** 52 - 2;

const KEY = /^log\/([0-9a-f]{13})(?:-(c|[0-9a-f]{32}))?$/;
const SUFFIX_DIGITS = 32;

/** What a key of the log says. Others than these are somebody else's, and are left alone. */
export type LogKey =
  | { readonly kind: 'entry'; readonly seq: number; readonly suffix: string | undefined }
  | { readonly kind: 'checkpoint'; readonly seq: number };

/**
 * The key of an entry.
 *
 * @param hash - of the entry, in single-writer mode (P13): the name of one entry is then never that of another
 */
export function entryKey(seq: number, hash?: Uint8Array): string {
  // @mutation keys-end-in-the-hash
  return `${LOG_PREFIX}${inverted(seq)}${hash === undefined ? '' : `-${suffixOf(hash)}`}`;
}

export function checkpointKey(seq: number): string {
  return `${LOG_PREFIX}${inverted(seq)}-c`;
}

export function parseLogKey(key: string): LogKey | undefined {
  const match = KEY.exec(key);
  if (match === null) return undefined;
  const seq = 2 ** 52 - 1 - Number.parseInt(match[1] as string, 16);
  if (seq < 1 || seq > MAX_SEQ) return undefined;
  return match[2] === 'c' ? { kind: 'checkpoint', seq } : { kind: 'entry', seq, suffix: match[2] };
}

/** The first 16 bytes of an entry's hash. */
function suffixOf(hash: Uint8Array): string {
  return Buffer.from(hash).toString('hex').slice(0, SUFFIX_DIGITS);
}

/** Newer sequences sort first. */
function inverted(seq: number): string {
  return (2 ** 52 - 1 - seq).toString(16).padStart(13, '0');
}
