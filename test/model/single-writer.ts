/**
 * P13 by itself: a store without create-only, hosts that each were told to be the only writer, and are
 * not. PUTs overwrite; they may be late. Two entries at one number must show, and must stop the rest.
 */
import { type Emit, jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

interface Stored {
  readonly number: number;
  readonly id: string;
}

interface Writer {
  readonly pc: 'closed' | 'open' | 'sent' | 'refused' | 'done';
  /** The newest number that it believes in. */
  readonly at: number;
  readonly id: string;
  readonly jobs: number;
  readonly crashes: number;
  /** Nobody sees this: it was let in although the log was forked. */
  readonly isOnFork: boolean;
}

interface SingleWriterState {
  readonly log: readonly Stored[];
  readonly net: readonly Stored[];
  readonly writers: readonly Writer[];
  /** Commits that were reported as successes. */
  readonly successes: readonly Stored[];
}

export interface SingleWriterConfiguration {
  readonly writers: number;
  readonly jobs: number;
  readonly crashes: number;
  /** Also count it against the rules that a fork comes about at all. */
  readonly isStrict?: boolean | undefined;
}

const sorted = (list: readonly Stored[]): Stored[] =>
  [...list].sort((a, b) => a.number - b.number || (a.id < b.id ? -1 : 1));

const isForked = (log: readonly Stored[]): boolean => log.some((entry, i) => log[i + 1]?.number === entry.number);

export function singleWriterModel(
  configuration: SingleWriterConfiguration,
  without: readonly Rule[] = [],
): Model<SingleWriterState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const writer: Writer = { pc: 'closed', at: 0, id: '', jobs: 0, crashes: 0, isOnFork: false };
  return {
    initial: () => ({ log: [], net: [], writers: new Array(configuration.writers).fill(writer), successes: [] }),
    successors: (state, emit) => {
      for (const late of state.net) {
        const net = state.net.filter((other) => other !== late);
        emit(`the late ${late.id} lands at ${late.number}`, { ...state, net, log: put(state.log, late, keeps) });
      }
      for (let index = 0; index < configuration.writers; index++) step(state, index, configuration, keeps, emit);
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      { name: 'I2: a reported success is in the log', broken: vanished },
      { name: 'I2: no number succeeds twice', broken: doubled },
      { name: 'P13: nobody opens a forked log for writing', broken: grown },
      {
        name: 'P13: one writer never forks its own log',
        broken: (state) => (configuration.isStrict && isForked(state.log) ? 'the log is forked' : undefined),
      },
    ],
  };
}

function put(log: readonly Stored[], entry: Stored, keeps: (rule: Rule) => boolean): Stored[] {
  const others = log.filter((e) => (keeps('P13.keys') ? e.id !== entry.id : e.number !== entry.number));
  return sorted([...others, entry]);
}

function step(
  state: SingleWriterState,
  index: number,
  configuration: SingleWriterConfiguration,
  keeps: (rule: Rule) => boolean,
  emit: Emit<SingleWriterState>,
): void {
  const self = state.writers[index]!;
  const become = (changes: Partial<Writer>, rest: Partial<SingleWriterState> = {}): SingleWriterState => ({
    ...state,
    ...rest,
    writers: state.writers.with(index, { ...self, ...changes }),
  });
  if (self.pc === 'closed') {
    if (isForked(state.log) && keeps('P13.readOnly'))
      emit(`writer ${index} opens: LOG_FORKED`, become({ pc: 'refused' }));
    else
      emit(
        `writer ${index} opens at ${state.log.at(-1)?.number ?? 0}`,
        become({ pc: 'open', at: state.log.at(-1)?.number ?? 0, isOnFork: isForked(state.log) }),
      );
  }
  if (self.pc === 'open') {
    const entry: Stored = { number: self.at + 1, id: `${'abc'[index]}${self.jobs + self.crashes + 1}` };
    const sent = { pc: 'sent', id: entry.id } as const;
    emit(`writer ${index} puts ${entry.id} at ${entry.number}`, become(sent, { log: put(state.log, entry, keeps) }));
    const net = sorted([...state.net, entry]);
    emit(`writer ${index} puts ${entry.id} at ${entry.number}: no answer`, become(sent, { net }));
    emit(`writer ${index} stops`, become({ pc: 'closed' }));
  }
  if (self.pc === 'sent' && self.crashes < configuration.crashes) {
    const dead = { pc: 'closed', id: '', jobs: self.jobs, crashes: self.crashes + 1 } as const;
    emit(`writer ${index} crashes`, become(dead));
  }
  if (self.pc === 'sent') {
    const entry: Stored = { number: self.at + 1, id: self.id };
    const log = put(state.log, entry, keeps);
    // Sent again until it is there: the same bytes to the same key. Then it looks.
    const isAlone = !isForked(log.filter((e) => e.number >= entry.number));
    const isSeen = keeps('P13.look') && !isAlone;
    const done = {
      pc: self.jobs + 1 === configuration.jobs ? 'done' : 'open',
      at: entry.number,
      id: '',
      jobs: self.jobs + 1,
    } as const;
    if (isSeen) emit(`writer ${index} looks: LOG_FORKED`, become({ pc: 'refused' }, { log }));
    else {
      const successes = sorted([...state.successes, entry]);
      emit(`writer ${index} reports ${entry.id} at ${entry.number}`, become(done, { log, successes }));
    }
  }
}

function vanished(state: SingleWriterState): string | undefined {
  const lost = state.successes.find((s) => !state.log.some((e) => e.id === s.id && e.number === s.number));
  return lost && `${lost.id} was reported, and is not in the log`;
}

function doubled(state: SingleWriterState): string | undefined {
  const index = state.successes.findIndex((s, i) => state.successes[i + 1]?.number === s.number);
  return index < 0 ? undefined : `number ${state.successes[index]!.number} was reported to two`;
}

function grown(state: SingleWriterState): string | undefined {
  const index = state.writers.findIndex((writer) => writer.pc === 'open' && writer.isOnFork);
  return index < 0 ? undefined : `writer ${index} goes on from one branch of a fork`;
}
