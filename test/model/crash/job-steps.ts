/** One job of a volume, from looking to END. */
import type { Become } from './jobs.ts';
import {
  commitOf,
  headOf,
  isCondemned,
  isIn,
  isOpen,
  type JobsState,
  type JobsWorld,
  keyOf,
  type LogEntry,
  lineOf,
  type Machine,
  type SessionKey,
  type Snapshot,
} from './jobs-state.ts';

interface JobTurn {
  readonly state: JobsState;
  readonly who: number;
  readonly machine: Machine;
  readonly world: JobsWorld;
  readonly become: Become;
}

export function jobSteps(turn: JobTurn): void {
  const { machine, world, state } = turn;
  const { pc } = machine;
  const { snapshot } = machine.directory;
  const mayOpen = state.opens < world.configuration.opens;
  if (!snapshot) {
    if (pc === 'idle' && mayOpen && !world.keeps('C18.seal')) openEarly(turn);
    return;
  }
  if (pc === 'idle') look(turn, snapshot);
  if (pc === 'looked' && mayOpen) intend(turn, snapshot);
  if (pc === 'intended' && mayOpen) open(turn, snapshot);
  if (pc === 'opened') recordJob(turn, snapshot);
  if (pc === 'working') work(turn, snapshot);
  if (pc === 'committed') confirm(turn, snapshot);
}

/** The session before the instant. */
function openEarly({ state, machine, become }: JobTurn): void {
  const log = [...state.log, entryOf(state, { type: 'open' })];
  const session = keyOf(log, log.length);
  const changes = { session, directory: { ...machine.directory, early: session } };
  become(`opens session ${log.length} before its instant, appends JOB`, changes, {
    log,
    next: state.next + 1,
    opens: state.opens + 1,
  });
}

export const entryOf = ({ next }: JobsState, about: Pick<LogEntry, 'type'> & Partial<LogEntry>): LogEntry => ({
  ...{ id: next, nonce: '', session: 0, serial: 0, pack: 0, content: 0, truth: 0, by: 0, isExcused: false },
  ...about,
});

const withSnapshot = ({ directory }: Machine, snapshot: Snapshot | null): Machine['directory'] => ({
  ...directory,
  snapshot,
});

/** The sessions that are this snapshot's: that of JOB, and all whose `open` has the nonce of INTENT. */
function ownSessions({ state: { log }, world: { keeps } }: JobTurn, { nonce, job }: Snapshot): SessionKey[] {
  const isJobs = job && isIn(log, job, keeps('C18.hash')) && log[job.sequence - 1]!.type === 'open';
  const jobs = isJobs ? [keyOf(log, job.sequence)] : [];
  const isNonces = (entry: LogEntry): boolean => keeps('C18.nonce') && nonce !== '' && entry.nonce === nonce;
  const nonces = log.flatMap((entry, index) => (isNonces(entry) ? [keyOf(log, index + 1)] : []));
  return keeps('C19.each') ? [...jobs, ...nonces] : [...jobs, ...nonces].slice(-1);
}

function look(turn: JobTurn, snapshot: Snapshot): void {
  const { machine, world, become, state } = turn;
  const sessions = ownSessions(turn, snapshot);
  const commits = sessions.map(({ sequence }) => commitOf(state.log, sequence));
  const commit = commits.find((each) => each?.serial === snapshot.serial);
  if (commit && world.keeps('C19.look')) {
    end(turn, snapshot, commit, 'looks: its session has committed');
    return;
  }
  const goesOn = (each: SessionKey): boolean => isOpen(state.log, each.sequence) && isOurs(turn, snapshot, each);
  const own = sessions.findLast(goesOn) ?? sessions.at(-1) ?? null;
  if (own === null || !world.keeps('C19.found')) {
    become('looks', { pc: 'looked', session: own });
    return;
  }
  // What was found by a nonce is recorded, before another nonce takes its place.
  const found = { ...(isOurs(turn, snapshot, own) ? snapshot : voided(turn, snapshot)), job: own };
  const directory = withSnapshot(machine, found);
  become(`looks: session ${own.sequence} is its own, appends JOB`, { pc: 'looked', session: own, directory });
}

/** Whether what was stored or inherited counts for the job that has this session. */
function isOurs({ state: { log }, world: { keeps } }: JobTurn, { state, from }: Snapshot, own: SessionKey): boolean {
  if (from === null) return true;
  if (state === 'inherited') return headOf(log)?.id === from.id || !keeps('C19.base');
  const line = lineOf(log, own.sequence);
  const isThere = line.includes(from.sequence) && isIn(log, from, keeps('C18.hash'));
  return isThere && line.every((each) => !isCondemned(log, each));
}

/** What was stored is wanted again, if it is anywhere. */
function voided({ machine, world }: JobTurn, snapshot: Snapshot): Snapshot {
  if (snapshot.state === 'stored' && !world.keeps('C19.void')) return snapshot;
  const isThere = snapshot.hasCopy || machine.directory.written < snapshot.serial;
  return { ...snapshot, state: isThere ? 'pending' : 'lost', from: null };
}

function intend({ who, machine, become }: JobTurn, snapshot: Snapshot): void {
  const nonce = `${who}.${machine.draws}`;
  const directory = withSnapshot(machine, { ...snapshot, nonce });
  become('appends INTENT', { pc: 'intended', draws: machine.draws + 1, directory });
}

/** The entry decides what it adopts, by the log that it follows. */
function open(turn: JobTurn, snapshot: Snapshot): void {
  const { state, machine, become, world } = turn;
  const own = machine.session;
  if (own && world.keeps('C19.look') && world.keeps('C19.again') && commitOf(state.log, own.sequence)) {
    become('finds that its session has committed meanwhile, and looks again', { pc: 'idle', session: null });
    return;
  }
  const canAdopt = own !== null && isIn(state.log, own, world.keeps('C18.hash')) && isOpen(state.log, own.sequence);
  const adopted = canAdopt ? own.sequence : 0;
  const log = [...state.log, entryOf(state, { type: 'open', nonce: snapshot.nonce, session: adopted, by: turn.who })];
  const session = keyOf(log, log.length);
  const isGone = snapshot.state === 'stored' && !canAdopt;
  const goesOn = !isGone && isOurs({ ...turn, state: { ...state, log } }, snapshot, session);
  const label = `opens session ${log.length}${adopted ? `, adopting ${adopted}` : ''}`;
  const taken = withVictims(turn).with(turn.who, { ...machine, pc: 'opened', session, goesOn });
  become(label, taken[turn.who]!, { log, machines: taken, next: state.next + 1, opens: state.opens + 1 });
}

/** Whose session is fenced or adopted by another machine, may lose what it has stored in it. */
function withVictims({ state: { log, machines }, who }: JobTurn): Machine[] {
  const taken = log.flatMap((entry, index) =>
    isOpen(log, index + 1) ? [{ ...keyOf(log, index + 1), by: entry.by }] : [],
  );
  const isVictim = ({ directory: { snapshot }, session }: Machine, index: number): boolean => {
    const ids = [snapshot?.from?.id, snapshot?.job?.id, session?.id];
    return index !== who && taken.some(({ id, by }) => by === index || ids.includes(id));
  };
  return machines.map((machine, index) => (isVictim(machine, index) ? { ...machine, mayLose: true } : machine));
}

/** JOB, and before it what the new session has not adopted. */
function recordJob(turn: JobTurn, snapshot: Snapshot): void {
  const { machine, become } = turn;
  const session = machine.session!;
  const isKept = machine.goesOn;
  const next = { ...(isKept ? snapshot : voided(turn, snapshot)), job: session };
  become(`appends ${isKept ? '' : 'STATE and '}JOB`, { pc: 'working', directory: withSnapshot(machine, next) });
}

/** The base, if change tracking is believed against it and the block has not changed since. */
function inheritedFrom(
  { state: { log }, machine, world: { keeps } }: JobTurn,
  { serial, written }: Snapshot,
): SessionKey | null {
  const key = headOf(log);
  const head = key && log[key.sequence - 1]!;
  if (!head || head.pack === 0) return null;
  const isSame = (each: SessionKey): boolean =>
    each.sequence === key.sequence && (!keeps('C20.hash') || each.id === key.id);
  const point = keeps('C20.memory') ? machine.directory.committed.find(isSame)?.serial : head.serial;
  return point !== undefined && point < serial && written < point ? key : null;
}

function work(turn: JobTurn, snapshot: Snapshot): void {
  const { state, machine, become } = turn;
  const { log, packs } = state;
  const session = machine.session!;
  if (snapshot.state !== 'pending') {
    commit(turn, snapshot);
    return;
  }
  const base = inheritedFrom(turn, snapshot);
  if (base) {
    const directory = withSnapshot(machine, { ...snapshot, state: 'inherited', from: base });
    become('inherits the block from the base', { directory });
    return;
  }
  const directory = withSnapshot(machine, { ...snapshot, state: 'stored', from: session });
  // A pack of a session that is not in the log, or that was condemned, is deleted sooner or later.
  const isKept = isIn(log, session, true) && !isCondemned(log, session.sequence);
  const rest = isKept ? { packs: { ...packs, [session.sequence]: snapshot.held } } : {};
  become(`stores the block in session ${session.sequence}, appends STATE`, { directory }, rest);
}

function commit(turn: JobTurn, snapshot: Snapshot): void {
  const { state, machine, become } = turn;
  const { log } = state;
  const session = machine.session!;
  const isListed = isIn(log, session, true) && isOpen(log, session.sequence);
  if (!isListed || lineOf(log, session.sequence).some((each) => isCondemned(log, each))) {
    become('can not commit, and looks again', { pc: 'idle', session: null, goesOn: false });
    return;
  }
  const { serial, held: truth } = snapshot;
  const isExcused = state.mayLose || machine.mayLose;
  const entry = entryOf(state, {
    ...{ type: 'commit', session: session.sequence, serial, truth, isExcused },
    ...placeOf(state, snapshot),
  });
  const after = [...log, entry];
  const changes = { pc: 'committed', session: keyOf(after, after.length) } as const;
  become(`commits snapshot ${serial}`, changes, { log: after, next: state.next + 1 });
  const { isLate, kills } = turn.world.configuration;
  if (!isLate || state.late || state.kills === kills) return;
  const killed = { pc: 'closed', session: null, goesOn: false } as const;
  const rest = { late: { entry, after: log.at(-1)!.id }, next: state.next + 1, kills: state.kills + 1 };
  become(`commits snapshot ${serial}, has no answer and is killed`, killed, rest);
}

function placeOf({ log, packs }: JobsState, { state, from }: Snapshot): Pick<LogEntry, 'pack' | 'content'> {
  if (state === 'lost' || from === null) return { pack: 0, content: 0 };
  const base = state === 'inherited' ? log[from.sequence - 1] : undefined;
  return base
    ? { pack: base.pack, content: base.content }
    : { pack: from.sequence, content: packs[from.sequence] ?? 0 };
}

/** The commit is a success when a listing shows it (P5). */
function confirm(turn: JobTurn, snapshot: Snapshot): void {
  const { state, machine, become } = turn;
  const commit = machine.session!;
  if (isIn(state.log, commit, true)) end(turn, snapshot, state.log[commit.sequence - 1]!, 'sees its commit');
  else become('does not see its commit, and looks again', { pc: 'idle', session: null, goesOn: false });
}

/** COMMITTED, END: the host is shown the backup. */
function end({ machine, become, state }: JobTurn, snapshot: Snapshot, entry: LogEntry, label: string): void {
  const { directory } = machine;
  const key = keyOf(state.log, state.log.indexOf(entry) + 1);
  const committed = [...directory.committed, { serial: snapshot.serial, ...key }];
  const wrong = `snapshot ${snapshot.serial} counts as backed up, and the backup is of another instant`;
  const mistake = entry.truth === snapshot.held ? state.mistake : wrong;
  const next = { ...directory, snapshot: null, committed };
  become(
    `${label}, appends COMMITTED and END`,
    { pc: 'idle', session: null, goesOn: false, directory: next },
    { mistake },
  );
}
