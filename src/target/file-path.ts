/**
 * Where `FileTarget` keeps an object: a directory for each segment of its key but the last, then a file whose
 * name ends in `~`, which no key can hold. So `a` is the file `a~`, `a/b` the file `a/b~`, and both may exist.
 *
 * A file name has at most 255 bytes, but a segment may have more. One of {@link CHUNK} characters or more is cut:
 * its first characters become the directory `<chunk>+`, and in there every name begins with `+`, so that a rest
 * such as `..` or `.x` never is a name of its own. The rest may be empty. The mapping is one to one, and every
 * directory holds the keys of one contiguous run in key order, which is what lets a listing go directory by
 * directory.
 */
const CHUNK = 200;
const OBJECT = '~';
const CUT = '+';

/** The names of the directories above an object's file, from the top, and of the file. */
export function objectPath(key: string): { readonly directories: readonly string[]; readonly file: string } {
  const names: string[] = [];
  for (const segment of key.split('/')) {
    let rest = segment;
    let mark = '';
    while (rest.length >= CHUNK) {
      names.push(mark + rest.slice(0, CHUNK) + CUT);
      rest = rest.slice(CHUNK);
      mark = CUT;
    }
    names.push(mark + rest);
  }
  return { directories: names.slice(0, -1), file: names.at(-1) + OBJECT };
}

/** What a name stands for. */
export interface EntryMeaning {
  /** What must be found under this name. */
  readonly kind: 'object' | 'directory';
  /** The key of an object, or what all keys within a directory begin with. */
  readonly text: string;
  /** Whether the names in this directory carry the mark of a cut segment. */
  readonly cut: boolean;
}

/**
 * What `name` stands for in a directory whose keys all begin with `start`, `undefined` when it is none of ours. The
 * name alone tells an object from a directory.
 *
 * @param cut - whether that directory is the chunk of a cut segment
 */
export function meaningOf(start: string, cut: boolean, name: string): EntryMeaning | undefined {
  const isObject = name.endsWith(OBJECT);
  const continues = !isObject && name.length > 1 && name.endsWith(CUT);
  const bare = isObject || continues ? name.slice(0, -1) : name;
  if (cut !== bare.startsWith(CUT)) return undefined;
  const part = cut ? bare.slice(1) : bare;
  if (!(cut ? /^[a-z0-9._-]*$/ : /^[a-z0-9][a-z0-9._-]*$/).test(part)) return undefined;
  // Only whole chunks are cut, and nothing as long as a chunk is left uncut: two names never mean one key.
  if (continues ? part.length !== CHUNK : part.length >= CHUNK) return undefined;
  if (isObject) return { kind: 'object', text: start + part, cut: false };
  return { kind: 'directory', text: continues ? start + part : `${start}${part}/`, cut: continues };
}
