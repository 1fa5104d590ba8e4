/** Log entries and the log itself: a trie, so that equal histories are one object and fold once. */
import { type Contents, MAX_SESSIONS } from './objects.ts';
import { fold, genesisView, type View } from './view.ts';

export interface BackupSpec {
  readonly volume: number;
  readonly parent: number;
  readonly base: number;
  /** The descriptor: root and runs. */
  readonly items: readonly number[];
  /** Everything below the items, as places. Readers find it by walking; the model writes it down. */
  readonly closure: readonly number[];
}

export interface Move {
  readonly from: number;
  readonly to: number;
  /** The pack that holds the table. */
  readonly table: number;
}

/** `who` and `attempt` (which incarnation) stand for the commitId. */
interface Common {
  readonly who: number;
  readonly attempt: number;
}

export type Entry = Common &
  (
    | {
        readonly type: 'open';
        readonly volumes: readonly number[];
        readonly bases: readonly number[];
        readonly fenced: readonly number[];
        readonly adopted: readonly number[];
      }
    | {
        readonly type: 'commit';
        readonly session: number;
        readonly backups: readonly BackupSpec[];
        readonly packs: readonly number[];
        /** Only with P12 taken out: the session goes on after this part. */
        readonly partial: boolean;
      }
    | { readonly type: 'abort'; readonly session: number }
    | { readonly type: 'forget'; readonly backups: readonly number[] }
    | {
        readonly type: 'collect';
        /** A repacker's session, or 0. */
        readonly session: number;
        readonly packs: readonly number[];
        readonly sessions: readonly number[];
        readonly fenced: readonly number[];
        readonly moves: readonly Move[];
        readonly newPacks: readonly number[];
      }
    | { readonly type: 'hole' }
  );

export interface LogNode {
  readonly id: number;
  readonly sequence: number;
  readonly parent: LogNode | undefined;
  readonly entry: number;
  readonly view: View;
}

/** Gives entries, contents and histories small numbers; the same one to the same thing. */
export class Registry {
  readonly #ids = new Map<string, number>();
  readonly #entries: Entry[] = [];
  readonly #contents: Contents[] = [];
  readonly #nodes: LogNode[] = [];
  readonly #children = new Map<number, LogNode>();
  readonly root: LogNode;

  constructor(volumes: number) {
    this.root = { id: 0, sequence: 0, parent: undefined, entry: -1, view: genesisView(volumes) };
    this.#nodes.push(this.root);
  }

  entryId(entry: Entry): number {
    return this.#intern(`e${JSON.stringify(entry)}`, this.#entries, entry);
  }

  entry(id: number): Entry {
    return this.#entries[id]!;
  }

  contentsId(contents: Contents): number {
    return this.#intern(`c${JSON.stringify(contents)}`, this.#contents, contents);
  }

  contents(id: number): Contents {
    return this.#contents[id]!;
  }

  node(id: number): LogNode {
    return this.#nodes[id]!;
  }

  append(log: LogNode, entry: number): LogNode {
    const key = log.id * 0x1000000 + entry;
    const known = this.#children.get(key);
    if (known) return known;
    const sequence = log.sequence + 1;
    if (sequence >= MAX_SESSIONS) throw new RangeError('the log outgrows the model: raise MAX_SESSIONS');
    const view = fold(log.view, this.entry(entry), sequence);
    const node: LogNode = { id: this.#nodes.length, sequence, parent: log, entry, view };
    this.#nodes.push(node);
    this.#children.set(key, node);
    return node;
  }

  #intern<T>(key: string, list: T[], item: T): number {
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    this.#ids.set(key, list.length);
    list.push(item);
    return list.length - 1;
  }
}

/** The entry at a number that is occupied. */
export function entryAt(log: LogNode, sequence: number): number {
  let node = log;
  while (node.sequence > sequence) node = node.parent!;
  return node.entry;
}
