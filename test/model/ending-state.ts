/** A log that ends: the store with what was listed of it, the hosts, and what nobody sees. */
import { fold, numberOf } from './chains.ts';
import type { Rule } from './rules.ts';

/** By number, from 0 on; '' where there is none. */
export interface Store {
  /** The chain of each entry. */
  readonly log: readonly string[];
  /** `<digest>:<chain>`, or `!` for garbage. */
  readonly checkpoints: readonly string[];
}

export interface Host {
  /** paging: the first page of a listing was read. again: a store without tags is listed once more. */
  readonly pc:
    | 'idle'
    | 'planned'
    | 'sent'
    | 'occupied'
    | 'created'
    | 'look'
    | 'paging'
    | 'listed'
    | 'again'
    | 'read'
    | 'packs'
    | 'check'
    | 'done'
    | 'refused';
  /** The chain that it goes by. Own entries in it may be strays. */
  readonly at: string;
  /** The chain that it has opened from the newest entry, or seen as the newest one. */
  readonly confirmed: string;
  /** An own entry whose outcome it does not know. */
  readonly sent: string;
  /** Number and word of its `open`, and whether a commit of it was ever sent. */
  readonly session: string;
  readonly isCommitSent: boolean;
  /** A writer's: up to where it has folded every entry since it knew that X is there. */
  readonly knownAt: number;
  readonly jobs: number;
  readonly built: number;
  readonly checkpoints: number;
  readonly crashes: number;
  readonly shown: Store | null;
  /** What the listing before lacked. */
  readonly doubt: string;
  /** The newest entry, the lowest number that was read below it, and how many checkpoints turned out to be useless. */
  readonly read: string;
  readonly low: number;
  readonly useless: number;
  readonly code: string;
  /** The sessions that it called backups, and those that it said have failed. */
  readonly reported: readonly string[];
  readonly failed: readonly string[];
  /** A copier's packs: how far the log was when they were copied, and whether X was among them; -1 for none. */
  readonly packsOf: number;
  readonly hasX: boolean;
  /** Nobody sees these: the log's newest number when it last listed, and what was wrong with what it believed. */
  readonly since: number;
  readonly mistake: string;
  /** What it has confirmed is of the time before the store was set back. */
  readonly isStale: boolean;
}

export interface Shared {
  /** The log as it should be: nobody sees it. */
  readonly truth: string;
  /** Up to where the log may be deleted by anyone and at any time, because a host that knew it has begun to; and X. */
  readonly mayDelete: number;
  readonly mayDeleteX: boolean;
  readonly hasX: boolean;
  /** Entries, and checkpoints with a digest, that are on their way and may land at any time. */
  readonly net: readonly string[];
  readonly isGone: boolean;
  readonly swaps: number;
  readonly losses: number;
  readonly garbage: number;
  readonly lies: number;
}

export interface EndingState {
  readonly store: Store;
  /** What is in its place while the disk is gone. */
  readonly other: Store;
  readonly shared: Shared;
  readonly hosts: readonly Host[];
}

export interface HostRole {
  /** A follower has the log open and looks once; a reader opens it. A copier copies the repository. */
  readonly kind: 'writer' | 'pruner' | 'reader' | 'follower' | 'copier';
  /** How much of the log it has read when it falls asleep. @default all of it */
  readonly at?: number | undefined;
  /** How often it does its work. @default 1 */
  readonly jobs?: number | undefined;
  /** The number of an `open` in the first log that is its own. */
  readonly session?: number | undefined;
  /** It opens the log itself before it does anything; once the store was set back, if it is. @default false */
  readonly isClosed?: boolean | undefined;
  /** Its commit was sent already, and not answered. @default false */
  readonly isCommitSent?: boolean | undefined;
  /** Its commits refer to pack X, if they may. */
  readonly refersToX?: boolean | undefined;
  /** A pruner's: what else its collections do, how many checkpoints it writes, and whether it forgets everything first. */
  readonly condemnsX?: boolean | undefined;
  readonly fences?: boolean | undefined;
  readonly forgets?: boolean | undefined;
  /** @default true */
  readonly raisesFloor?: boolean | undefined;
  /** Entries of its own that mean nothing. */
  readonly entries?: number | undefined;
  readonly checkpoints?: number | undefined;
  readonly crashes?: number | undefined;
  /** Whether its entries may go unanswered, and land later. */
  readonly isLate?: boolean | undefined;
}

export interface EndingConfiguration {
  /** The words of the first entries. */
  readonly log: readonly string[];
  /** The numbers of the first checkpoints. */
  readonly checkpoints: readonly number[];
  readonly roles: readonly HostRole[];
  /** How many entries one request reads. @default 1 */
  readonly tail?: number | undefined;
  /** Checkpoints that are lost or damaged, although they were good. @default 0 */
  readonly losses?: number | undefined;
  /** Checkpoints that are garbage from the beginning. @default 0 */
  readonly garbage?: number | undefined;
  /** Listings that lack something. @default 0 */
  readonly lies?: number | undefined;
  /** How often the disk goes away or comes back. @default 0 */
  readonly swaps?: number | undefined;
  /** The store is set back to how it was, while its hosts go on. @default false */
  readonly isSetBack?: boolean | undefined;
  /** Requests that were answered land once more. @default false */
  readonly isDuplicated?: boolean | undefined;
  /** Checkpoints may land late. @default false */
  readonly areCheckpointsLate?: boolean | undefined;
  /** @default true */
  readonly hasTags?: boolean | undefined;
  /** A listing's first page has its lowest numbers, or the other pages are read later. @default 'one' */
  readonly pages?: 'one' | 'inverted' | 'two' | undefined;
  /** Also where the disk goes away, the log never gets a hole. */
  readonly isStrict?: boolean | undefined;
}

export interface EndingWorld {
  readonly configuration: EndingConfiguration;
  readonly keeps: (rule: Rule) => boolean;
}

export const NOTHING: Store = { log: [], checkpoints: [] };

export const HOST: Host = {
  pc: 'idle',
  at: '',
  confirmed: '',
  sent: '',
  session: '',
  isCommitSent: false,
  knownAt: 0,
  jobs: 0,
  built: 0,
  checkpoints: 0,
  crashes: 0,
  shown: null,
  doubt: '',
  read: '',
  low: 0,
  useless: 0,
  code: '',
  reported: [],
  failed: [],
  packsOf: -1,
  hasX: false,
  since: 0,
  mistake: '',
  isStale: false,
};

export const mounted = ({ shared, store, other }: EndingState): Store => (shared.isGone ? other : store);

export function put(list: readonly string[], number: number, object: string): string[] {
  const next = [...list];
  while (next.length < number) next.push('');
  next[number] = object;
  while (next.length > 0 && next.at(-1) === '') next.pop();
  return next;
}

export const newestOf = (store: Store): number =>
  Math.max(
    0,
    store.log.findLastIndex((entry) => entry !== ''),
  );

/** The numbers of the checkpoints up to one, newest first. */
export function checkpointsOf(store: Store, through: number): number[] {
  const numbers: number[] = [];
  for (let number = Math.min(through, store.checkpoints.length - 1); number > 0; number--) {
    if (store.checkpoints[number]) numbers.push(number);
  }
  return numbers;
}

/** What is stored after an entry has arrived, and what of that is the log. */
export function withEntry(state: EndingState, chain: string): EndingState {
  const number = numberOf(chain);
  if (mounted(state).log[number]) return state;
  if (state.shared.isGone) return { ...state, other: { ...state.other, log: put(state.other.log, number, chain) } };
  const store = { ...state.store, log: put(state.store.log, number, chain) };
  const isNext = fold(chain).through.at(-2) === state.shared.truth;
  return { ...state, store, shared: isNext ? { ...state.shared, truth: chain } : state.shared };
}

export function withCheckpoint(state: EndingState, checkpoint: string, isCreateOnly: boolean): EndingState {
  const number = numberOf(chainIn(checkpoint));
  if (isCreateOnly && mounted(state).checkpoints[number]) return state;
  const key = state.shared.isGone ? 'other' : 'store';
  return { ...state, [key]: { ...state[key], checkpoints: put(state[key].checkpoints, number, checkpoint) } };
}

/** A checkpoint is its digest and the chain that it is of. */
export const chainIn = (checkpoint: string): string => checkpoint.slice(checkpoint.indexOf(':') + 1);
export const digestIn = (checkpoint: string): string => checkpoint.slice(0, checkpoint.indexOf(':'));

/** Whether a checkpoint is readable and goes with a chain; that of the floor by its digest too. */
export function isUsable(checkpoint: string | undefined, chain: string, number: number): boolean {
  const { through, floor, digest } = fold(chain);
  if (!checkpoint || checkpoint === '!' || chainIn(checkpoint) !== through[number]) return false;
  return number !== floor || digestIn(checkpoint) === digest;
}
