/** A state of the model of a volume's jobs in a repository, and who takes part. The volume has one block, and all records are durable. */
import { Interned } from '../interned.ts';
import type { Rule } from '../rules.ts';

export interface LogEntry {
  readonly type: 'open' | 'commit' | 'collect';
  /** Different for each entry: it stands for the hash. */
  readonly id: number;
  readonly nonce: string;
  /** Of an open: the session that it adopts, or 0. Of the others: the session that it is about. */
  readonly session: number;
  readonly serial: number;
  /** Of a commit: the session in which its pack is, or of a block that was inherited the base; 0 for a lost block. */
  readonly pack: number;
  readonly content: number;
  /** Nobody sees this: what the instant held. */
  readonly truth: number;
  /** Nor this: whose process has opened a session, and whether a commit may have lost its block. */
  readonly by: number;
  readonly isExcused: boolean;
}

export interface Snapshot {
  readonly serial: number;
  readonly held: number;
  /** The epoch of the block at the instant. */
  readonly written: number;
  readonly hasCopy: boolean;
  readonly state: 'pending' | 'stored' | 'inherited' | 'lost';
  /** The session that stored it, or the commit of the base that it is inherited from. */
  readonly from: SessionKey | null;
  /** INTENT and JOB. */
  readonly nonce: string;
  readonly job: SessionKey | null;
}

export interface SessionKey {
  readonly sequence: number;
  readonly id: number;
}

interface Committed extends SessionKey {
  readonly serial: number;
}

/** The state directory: all of it is durable. */
export interface Directory {
  readonly current: number;
  readonly written: number;
  readonly snapshot: Snapshot | null;
  readonly committed: readonly Committed[];
  /** Only without C18: the session that was opened before the instant. */
  readonly early: SessionKey | null;
  /** The device's stamp in CLOSED; 0 while it is open, and after a crash. */
  readonly stamp: number;
}

export interface Machine {
  readonly directory: Directory;
  /** The content of the block; each write has its own, so that this is also the device's stamp. */
  readonly block: number;
  /** What the process is at: it has looked, has appended INTENT, has its `open` in the log, has appended JOB, has its commit. */
  readonly pc: 'closed' | 'idle' | 'looked' | 'intended' | 'opened' | 'working' | 'committed';
  /** Its session, or at last its commit, and whether the session goes on with what was stored or inherited. */
  readonly session: SessionKey | null;
  readonly goesOn: boolean;
  readonly draws: number;
  /** Nobody sees this: a copy of it has fenced or adopted what it had. */
  readonly mayLose: boolean;
}

export interface JobsState {
  readonly machines: readonly Machine[];
  readonly log: readonly LogEntry[];
  /** By session: the content of its pack. */
  readonly packs: Readonly<Record<number, number>>;
  readonly saved: Machine | null;
  /** A commit on its way, and the entry that it follows. Where it does not follow any more, it is a stray, which nobody folds. */
  readonly late: { readonly entry: LogEntry; readonly after: number } | null;
  readonly next: number;
  readonly writes: number;
  readonly snapshots: number;
  readonly opens: number;
  readonly kills: number;
  readonly collects: number;
  /** Whether blocks may be lost: what they were stored in was collected, set back or rolled back. */
  readonly mayLose: boolean;
  readonly wasReverted: boolean;
  readonly wasRolledBack: boolean;
  readonly mistake: string;
}

export interface JobsConfiguration {
  readonly writes: number;
  readonly snapshots: number;
  readonly opens: number;
  readonly kills: number;
  readonly collects?: number | undefined;
  /** Whether the host closes a snapshot that it has not backed up. */
  readonly closes?: boolean | undefined;
  readonly isCopied?: boolean | undefined;
  /** Whether a commit may have no answer, and land later. */
  readonly isLate?: boolean | undefined;
  readonly reverts?: 'both' | 'one' | undefined;
  readonly rollsBack?: boolean | undefined;
  /** Steps that have been done before it begins, by the beginnings of their labels. */
  readonly scene?: readonly string[] | undefined;
}

export interface JobsWorld {
  readonly configuration: JobsConfiguration;
  readonly keeps: (rule: Rule) => boolean;
}

export const NO_DIRECTORY: Directory = { current: 0, written: 0, snapshot: null, committed: [], early: null, stamp: 0 };

export const keyOf = (log: readonly LogEntry[], sequence: number): SessionKey => ({
  sequence,
  id: log[sequence - 1]!.id,
});

/** Whether the log has this very entry. */
export const isIn = (log: readonly LogEntry[], { sequence, id }: SessionKey, comparesHash: boolean): boolean =>
  log.length >= sequence && (!comparesHash || log[sequence - 1]!.id === id);

const about = (log: readonly LogEntry[], type: LogEntry['type'], session: number): LogEntry | undefined =>
  log.find((entry, index) => index >= session && entry.type === type && entry.session === session);

export const commitOf = (log: readonly LogEntry[], session: number): LogEntry | undefined =>
  about(log, 'commit', session);

export const isCondemned = (log: readonly LogEntry[], session: number): boolean =>
  about(log, 'collect', session) !== undefined;

/** An `open` that nothing has ended: no later one of the volume, no commit and no collector. */
export const isOpen = (log: readonly LogEntry[], session: number): boolean =>
  log[session - 1]!.type === 'open' &&
  log.every((entry, index) => index < session || (entry.type !== 'open' && entry.session !== session));

/** The newest backup of the volume. */
export function headOf(log: readonly LogEntry[]): SessionKey | null {
  const index = log.findLastIndex(({ type }) => type === 'commit');
  return index < 0 ? null : keyOf(log, index + 1);
}

/** The session, what it has adopted, and so on. */
export function lineOf(log: readonly LogEntry[], session: number): number[] {
  const line: number[] = [];
  for (let at = session; at !== 0; at = log[at - 1]!.session) line.push(at);
  return line;
}

export const jobsCodec = (): Interned<JobsState> =>
  new Interned<JobsState>(
    ({ machines, log, packs, ...rest }) => [...machines, log, packs, rest],
    (parts) => {
      const [log, packs, rest] = parts.slice(-3) as [JobsState['log'], JobsState['packs'], object];
      return { ...(rest as JobsState), machines: parts.slice(0, -3) as Machine[], log, packs };
    },
  );
