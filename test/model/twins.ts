/**
 * Two processes with one memory: a machine that is cloned while it runs, or set back with its volume. Both draw the same
 * random numbers, fill the same session and send entries to the same number, equal or different ones. An entry's bytes
 * stand for its hash; draws are counted, so a twin's next one is the same.
 */
import { type Emit, jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

interface Entry {
  readonly type: 'open' | 'commit';
  readonly id: string;
  readonly session: number;
  readonly pack: string;
  readonly content: string;
}

interface Process {
  readonly pc: 'idle' | 'open' | 'stored' | 'end';
  /** How much of the log it has read, and how many random numbers it has drawn. */
  readonly at: number;
  readonly draws: number;
  readonly session: number;
  readonly volume: string;
  /** What is being backed up, and the pack that holds it. */
  readonly frozen: string;
  readonly pack: string;
  /** A commit that it was told of as a success, or as a failure. */
  readonly success: string;
  readonly failure: string;
}

interface TwinsState {
  readonly log: readonly Entry[];
  readonly packs: Readonly<Record<string, string>>;
  /** What each nonce has sealed. */
  readonly sealed: Readonly<Record<string, readonly string[]>>;
  readonly processes: readonly Process[];
  readonly saved: Process | null;
  readonly wasSetBack: boolean;
}

export interface TwinsConfiguration {
  readonly jobs: number;
  readonly isCloned: boolean;
  readonly isSetBack: boolean;
}

export function twinsModel(configuration: TwinsConfiguration, without: readonly Rule[] = []): Model<TwinsState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const process: Process = {
    ...{ pc: 'idle', at: 0, draws: 0, session: 0, volume: '-', frozen: '', pack: '', success: '', failure: '' },
  };
  return {
    initial: () => ({ log: [], packs: {}, sealed: {}, processes: [process], saved: null, wasSetBack: false }),
    successors: (state, emit) => {
      machines(state, configuration, emit);
      for (const who of state.processes.keys()) step(state, who, configuration, keeps, emit);
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      { name: 'I1: what was committed is what is stored', broken: overwritten },
      { name: 'I2: what the host was told is true', broken: untrue },
      { name: 'no nonce seals two contents', broken: sealedTwice },
      { name: 'a session commits once', broken: twice },
    ],
  };
}

function machines(state: TwinsState, { isCloned, isSetBack }: TwinsConfiguration, emit: Emit<TwinsState>): void {
  const [first] = state.processes;
  if (isCloned && state.processes.length < 2) {
    emit('the machine is cloned', { ...state, processes: [first!, first!] });
  }
  if (!isSetBack || state.wasSetBack) return;
  if (state.saved === null) emit('the machine is saved', { ...state, saved: first! });
  else {
    const processes = state.processes.with(0, state.saved);
    emit('the machine is set back with its volume', { ...state, processes, wasSetBack: true });
  }
}

function step(
  state: TwinsState,
  who: number,
  { jobs }: TwinsConfiguration,
  keeps: (rule: Rule) => boolean,
  emit: Emit<TwinsState>,
): void {
  const self = state.processes[who]!;
  const become = (label: string, changes: Partial<Process>, rest: Partial<TwinsState> = {}): void =>
    emit(`process ${who} ${label}`, {
      ...state,
      ...rest,
      processes: state.processes.with(who, { ...self, ...changes }),
    });
  if (self.volume === '-') for (const value of ['x', 'y']) become(`writes ${value}`, { volume: value });
  if (self.draws > 3 * jobs || self.pc === 'end') return;
  if (self.pc === 'idle') {
    const frozen = self.volume;
    const entry = made(self, 'open', { session: self.at + 1, pack: '', content: '' }, keeps);
    append(state, entry, self, become, keeps, { pc: 'open', session: self.at + 1, frozen }, {});
  }
  if (self.pc === 'open') upload(state, self, keeps, become);
  if (self.pc !== 'stored') return;
  const { session, pack, frozen: content } = self;
  // Somebody opened after it: a takeover, which fences. Or its session has committed already.
  const isOver = state.log.slice(session, self.at).length > 0;
  const ended = { pc: 'idle', failure: commitOf(session, content, self.draws), draws: self.draws + 1 } as const;
  if (isOver) become('sees that its session is over', ended);
  else {
    const entry = made(self, 'commit', { session, pack, content }, keeps);
    const success = commitOf(session, content, self.draws);
    append(state, entry, self, become, keeps, { pc: 'end', success, failure: '' }, {});
  }
}

const commitOf = (session: number, content: string, draw: number): string => `${session}/${content}/${draw}`;

type Become = (label: string, changes: Partial<Process>, rest?: Partial<TwinsState>) => void;

function made(
  self: Process,
  type: Entry['type'],
  what: Pick<Entry, 'session' | 'pack' | 'content'>,
  keeps: (rule: Rule) => boolean,
): Entry {
  const hedge = keeps('names.id') ? `-${type}-${JSON.stringify(what)}` : '';
  return { type, id: `${self.draws}${hedge}`, ...what };
}

/** Sends an entry to the next number that the process knows of. */
function append(
  state: TwinsState,
  entry: Entry,
  self: Process,
  become: Become,
  keeps: (rule: Rule) => boolean,
  won: Partial<Process>,
  rest: Partial<TwinsState>,
): void {
  const number = self.at + 1;
  const there = state.log[self.at];
  const label = `sends its ${entry.type} of ${entry.content || 'nothing yet'} to ${number}`;
  const next = { ...won, at: number, draws: self.draws + 1 };
  if (there === undefined) become(`${label}: created`, next, { ...rest, log: [...state.log, entry] });
  else {
    const isSame = keeps('P5.wholeBytes') ? JSON.stringify(there) === JSON.stringify(entry) : there.id === entry.id;
    if (isSame) become(`${label}: exists, taken as its own`, next);
    else become(`${label}: another's`, { at: number });
  }
}

function upload(state: TwinsState, self: Process, keeps: (rule: Rule) => boolean, become: Become): void {
  const { frozen, session, draws } = self;
  const pack = `${session}/${draws}`;
  const nonce = keeps('names.nonce') ? `${draws}-${frozen}` : `${draws}`;
  const seals = state.sealed[nonce] ?? [];
  const sealed = { ...state.sealed, [nonce]: [...new Set([...seals, frozen])].sort() };
  const stored = { pc: 'stored', pack, draws: draws + 1 } as const;
  const there = state.packs[pack];
  const label = `uploads ${pack} with ${frozen}`;
  if (there === undefined || !keeps('P1.createOnly')) {
    become(`${label}: stored`, stored, { sealed, packs: { ...state.packs, [pack]: frozen } });
  } else if (there === frozen || !keeps('P1.sameContent'))
    become(`${label}: exists, taken as its own`, stored, { sealed });
  else become(`${label}: SESSION_SHARED`, { pc: 'idle', draws: draws + 1 }, { sealed });
}

function overwritten({ log, packs }: TwinsState): string | undefined {
  const wrong = log.find(({ type, pack, content }) => type === 'commit' && packs[pack] !== content);
  return wrong && `${wrong.pack} should hold ${wrong.content}, and holds ${packs[wrong.pack] ?? 'nothing'}`;
}

function untrue({ log, processes }: TwinsState): string | undefined {
  const isIn = (told: string): boolean =>
    log.some((e) => e.type === 'commit' && told.startsWith(commitOf(e.session, e.content, 0).slice(0, -1)));
  const who = processes.findIndex(({ success }) => success !== '' && !isIn(success));
  return who < 0 ? undefined : `process ${who} was told of a success that is not`;
}

function sealedTwice({ sealed }: TwinsState): string | undefined {
  const nonce = Object.keys(sealed).find((each) => sealed[each]!.length > 1);
  return nonce && `nonce ${nonce} has sealed ${sealed[nonce]!.join(' and ')}`;
}

function twice({ log }: TwinsState): string | undefined {
  const sessions = log.filter(({ type }) => type === 'commit').map(({ session }) => session);
  const session = sessions.find((each, index) => sessions.indexOf(each) !== index);
  return session === undefined ? undefined : `session ${session} has committed twice`;
}
