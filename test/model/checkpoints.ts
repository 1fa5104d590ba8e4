/**
 * P11 by itself: opening by newest entry, tail and checkpoint; checkpoints lost, late, stale, or of an
 * entry that never won; a log whose newest entries vanish (a bucket set back, a lifecycle rule, a delete
 * marker that frees the name). A hash is the list of ids through its entry; so is a folded state.
 */
import { type Emit, jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

interface LogEntry {
  /** Unique; its first letter is its writer. */
  readonly id: string;
  /** The ids before it that the writer chained it to. */
  readonly before: readonly string[];
  /** How many of the last ids its tail repeats, itself included. */
  readonly tail: number;
}

interface Checkpoint {
  readonly sequence: number;
  readonly hash: readonly string[];
  /** What it says the state is. */
  readonly state: readonly string[];
}

interface Host {
  readonly isOpen: boolean;
  readonly state: readonly string[];
  /** The newest checkpoint that it knows of: its tails begin after it. */
  readonly checkpointAt: number;
  readonly remembers: readonly string[];
  readonly steps: number;
  readonly code: string;
  /** Nobody sees this: what was wrong with what it believed when it opened. */
  readonly mistake: string;
}

interface CheckpointState {
  readonly log: readonly (LogEntry | null)[];
  readonly checkpoints: readonly Checkpoint[];
  /** Checkpoint PUTs on their way. */
  readonly net: readonly Checkpoint[];
  readonly hosts: readonly Host[];
  readonly vanished: number;
}

export interface CheckpointConfiguration {
  readonly hosts: readonly { readonly hasMemory: boolean; readonly steps: number }[];
  readonly maxTail: number;
  /** How many entries may vanish from the newest end. */
  readonly vanishing: number;
  /** Also count it as a mistake to open a log whose older links don't hold, which two rounds can't see. */
  readonly isStrict?: boolean | undefined;
}

const CLOSED = { isOpen: false, state: [], checkpointAt: 0, mistake: '' };

const chain = (entry: LogEntry): string[] => [...entry.before, entry.id];
const same = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join();
const isPrefix = (a: readonly string[], b: readonly string[]): boolean => same(a, b.slice(0, a.length));

export function checkpointModel(
  configuration: CheckpointConfiguration,
  without: readonly Rule[] = [],
): Model<CheckpointState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const host = { isOpen: false, state: [], checkpointAt: 0, remembers: [], steps: 0, code: '', mistake: '' };
  return {
    initial: () => ({ log: [], checkpoints: [], net: [], hosts: configuration.hosts.map(() => host), vanished: 0 }),
    successors: (state, emit) => {
      environment(state, configuration, emit);
      for (const [index, role] of configuration.hosts.entries()) {
        const self = state.hosts[index]!;
        if (!self.isOpen) open(state, index, configuration, keeps, emit);
        else {
          if (self.steps < role.steps) append(state, index, configuration.maxTail, keeps, emit);
          emit(
            `host ${index} stops`,
            withHost(state, index, { ...CLOSED, remembers: role.hasMemory ? self.remembers : [] }),
          );
        }
      }
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      { name: 'I6: what an opener believes is the fold of the log', broken: misbelief },
      { name: 'I6: no alarm while nothing has vanished', broken: falseAlarm },
    ],
  };
}

function withHost(state: CheckpointState, index: number, changes: Partial<Host>): CheckpointState {
  return { ...state, hosts: state.hosts.with(index, { ...state.hosts[index]!, ...changes }) };
}

const store = (list: readonly Checkpoint[], item: Checkpoint): Checkpoint[] =>
  [...list.filter((c) => c.sequence !== item.sequence), item].sort((a, b) => a.sequence - b.sequence);

function environment(
  state: CheckpointState,
  configuration: CheckpointConfiguration,
  emit: Emit<CheckpointState>,
): void {
  for (const late of state.net) {
    const net = state.net.filter((other) => other !== late);
    emit(`the late checkpoint ${late.sequence} lands`, { ...state, net, checkpoints: store(state.checkpoints, late) });
  }
  for (const gone of state.checkpoints) {
    emit(`checkpoint ${gone.sequence} is lost`, { ...state, checkpoints: state.checkpoints.filter((c) => c !== gone) });
  }
  if (state.vanished < configuration.vanishing && state.log.length > 0) {
    emit(`entry ${state.log.length} vanishes`, { ...state, log: state.log.slice(0, -1), vanished: state.vanished + 1 });
  }
}

function append(
  state: CheckpointState,
  index: number,
  maxTail: number,
  keeps: (rule: Rule) => boolean,
  emit: Emit<CheckpointState>,
): void {
  const self = state.hosts[index]!;
  const sequence = self.state.length + 1;
  const entry: LogEntry = {
    id: `${'ab'[index]}${self.steps + 1}`,
    before: self.state,
    tail: Math.min(maxTail, sequence - self.checkpointAt),
  };
  const after = chain(entry);
  const checkpoint: Checkpoint = { sequence, hash: after, state: after };
  const steps = self.steps + 1;
  if (!keeps('P11.won')) {
    const early = withHost({ ...state, checkpoints: store(state.checkpoints, checkpoint) }, index, {
      steps,
      isOpen: false,
    });
    emit(`host ${index} writes checkpoint ${sequence} before its entry, and dies`, early);
  }
  if (state.log.length >= sequence) {
    const now = state.log[sequence - 1];
    // It reads what took its number; a chain that does not go on from its own is a refusal.
    if (now && same(now.before, self.state)) {
      emit(`host ${index} loses ${sequence} and replays`, withHost(state, index, { state: chain(now) }));
    } else emit(`host ${index} finds another history`, withHost(state, index, { isOpen: false, code: 'LOG_FORKED' }));
    return;
  }
  const log: (LogEntry | null)[] = [...state.log];
  while (log.length < sequence - 1) log.push(null);
  log.push(entry);
  const remembers = after;
  const won = withHost({ ...state, log }, index, { state: after, remembers, steps });
  emit(`host ${index} appends ${entry.id} at ${sequence}`, won);
  const known = withHost(won, index, { checkpointAt: sequence });
  emit(`host ${index} appends ${entry.id} at ${sequence}, with a checkpoint`, {
    ...known,
    checkpoints: store(state.checkpoints, checkpoint),
  });
  emit(`host ${index} appends ${entry.id} at ${sequence}, its checkpoint is late`, {
    ...known,
    net: store(state.net, checkpoint),
  });
}

function open(
  state: CheckpointState,
  index: number,
  configuration: CheckpointConfiguration,
  keeps: (rule: Rule) => boolean,
  emit: Emit<CheckpointState>,
): void {
  const self = state.hosts[index]!;
  if (self.code !== '') return;
  const { hasMemory } = configuration.hosts[index]!;
  const { believed, checkpointAt, code } = believe(state, keeps);
  let refusal = code;
  if (refusal === '' && hasMemory && keeps('P11.remember') && !isPrefix(self.remembers, believed)) {
    refusal = 'REPOSITORY_ROLLED_BACK';
  }
  if (refusal !== '') emit(`host ${index} opens: ${refusal}`, withHost(state, index, { code: refusal }));
  else {
    const remembers = hasMemory ? believed : [];
    const mistake = mistakeOf(state, self.remembers, believed, configuration.isStrict ?? false);
    const changes = { isOpen: true, state: believed, checkpointAt, remembers, mistake };
    emit(`host ${index} opens, believes ${believed.join(' ') || 'an empty log'}`, withHost(state, index, changes));
  }
}

/** The two rounds of opening: one listing, then the newest entry and the newest checkpoint. */
function believe(state: CheckpointState, keeps: (rule: Rule) => boolean) {
  const newest = state.log.at(-1);
  const checkpoint = state.checkpoints.at(-1);
  const isAhead = checkpoint !== undefined && checkpoint.sequence > state.log.length;
  if (isAhead && keeps('P11.ahead')) return { believed: [], checkpointAt: 0, code: 'LOG_TRUNCATED' };
  if (!newest) return { believed: isAhead ? checkpoint.state : [], checkpointAt: 0, code: '' };
  if (isAhead) return { believed: checkpoint.state, checkpointAt: checkpoint.sequence, code: '' };
  if (checkpoint) {
    const gap = state.log.length - checkpoint.sequence;
    // The hash of the checkpoint's entry is the entry's before-hash of what the tail begins with.
    const isReached = newest.tail >= gap;
    const hash = chain(newest).slice(0, checkpoint.sequence);
    const continues = !keeps('P11.chain') || same(checkpoint.hash, hash);
    const tail = chain(newest).slice(-newest.tail);
    if (!keeps('P11.tail') && !isReached) {
      return { believed: [...checkpoint.state, ...tail], checkpointAt: checkpoint.sequence, code: '' };
    }
    if (isReached && continues) {
      const since = gap === 0 ? [] : tail.slice(-gap);
      return { believed: [...checkpoint.state, ...since], checkpointAt: checkpoint.sequence, code: '' };
    }
  }
  return walk(state);
}

/** Every entry read, every link looked at. */
function walk(state: CheckpointState) {
  let believed: string[] = [];
  for (const entry of state.log) {
    if (!entry) return { believed: [], checkpointAt: 0, code: 'LOG_TRUNCATED' };
    if (!same(entry.before, believed)) return { believed: [], checkpointAt: 0, code: 'LOG_FORKED' };
    believed = chain(entry);
  }
  return { believed, checkpointAt: 0, code: '' };
}

function mistakeOf(
  state: CheckpointState,
  remembered: readonly string[],
  believed: readonly string[],
  isStrict: boolean,
): string {
  const { believed: truth, code } = walk(state);
  if (!isPrefix(remembered, believed)) return `it remembers ${remembered.join(' ')}`;
  if (code !== '') return isStrict ? `a walk says ${code}` : '';
  return same(believed, truth) ? '' : `the log is ${truth.join(' ') || 'empty'}`;
}

function misbelief(state: CheckpointState): string | undefined {
  const index = state.hosts.findIndex((host) => host.isOpen && host.mistake !== '');
  if (index < 0) return undefined;
  const { state: believed, mistake } = state.hosts[index]!;
  return `host ${index} believes ${believed.join(' ') || 'an empty log'}; ${mistake}`;
}

function falseAlarm(state: CheckpointState): string | undefined {
  if (state.vanished > 0) return undefined;
  const index = state.hosts.findIndex((host) => host.code !== '');
  return index < 0 ? undefined : `host ${index} was refused with ${state.hosts[index]!.code}, and nothing is wrong`;
}
