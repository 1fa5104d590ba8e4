/**
 * P5 where stores don't stay what they are: a success is believed after a listing. The store vanishes, an empty one or an
 * old copy is in its place, others go on writing there, and it comes back; a listing may lack what is there. A hash is the
 * list of ids through its entry, and so is a folded state. All entries are of one size, unless it is said.
 */
import { type Emit, jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

interface Entry {
  readonly id: string;
  readonly before: readonly string[];
}

/** By number, from 1 on; null where there is none. */
type Log = readonly (Entry | null)[];

interface Host {
  readonly pc: 'closed' | 'idle' | 'sent' | 'created' | 'listed' | 'refused';
  /** The ids through what it has read or written. */
  readonly at: readonly string[];
  /** How many of them a listing has shown. */
  readonly confirmed: number;
  /** What it has sent last. */
  readonly entry: Entry | null;
  /** Whether its session is open: the next entry is the commit. */
  readonly isOpen: boolean;
  readonly jobs: number;
  /** A commit that it was said to have failed. */
  readonly failed: string;
  /** Nobody sees this: what was wrong with what it was told. */
  readonly mistake: string;
}

interface StoresState {
  readonly stores: readonly [real: Log, other: Log];
  readonly mounted: 0 | 1;
  readonly swaps: number;
  readonly lies: number;
  readonly net: readonly { readonly store: 0 | 1; readonly entry: Entry }[];
  readonly hosts: readonly Host[];
}

export interface StoresConfiguration {
  /** Jobs of each host. The first has the log open; the others open it when their turn comes. */
  readonly jobs: readonly number[];
  /** How often another store is in its place, or it comes back. */
  readonly swaps: number;
  /** How many listings lack an entry that is there. */
  readonly lies: number;
  /** Whether requests may go unanswered. */
  readonly isLate?: boolean | undefined;
  /** Also count it against the rules that a log is broken by somebody who has not noticed yet. */
  readonly isStrict?: boolean | undefined;
}

const chain = (entry: Entry): string[] => [...entry.before, entry.id];
/** The ids through the newest entry, as that says. */
const through = (log: Log): string[] => {
  const newest = log.findLast((entry) => entry !== null);
  return newest ? chain(newest) : [];
};
const same = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join();

export function storesModel(configuration: StoresConfiguration, without: readonly Rule[] = []): Model<StoresState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const first: Entry = { id: 'o', before: [] };
  const host = (index: number): Host => ({
    ...{ pc: index === 0 ? 'idle' : 'closed', at: index === 0 ? ['o'] : [], confirmed: index === 0 ? 1 : 0 },
    ...{ entry: null, isOpen: false, jobs: 0, failed: '', mistake: '' },
  });
  return {
    initial: () => ({
      ...{ stores: [[first], []], mounted: 0, swaps: 0, lies: 0, net: [] },
      hosts: configuration.jobs.map((_, index) => host(index)),
    }),
    successors: (state, emit) => {
      environment(state, configuration, emit);
      for (const index of configuration.jobs.keys()) new Turn(state, index, configuration, keeps, emit).step();
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      { name: 'I2: what the host was told is true', broken: ({ hosts }) => hosts.find((h) => h.mistake)?.mistake },
      { name: 'I2: a failure that was reported never lands', broken: landed },
      { name: 'nobody breaks a log', broken: (state) => (configuration.isStrict ? broken(state) : undefined) },
    ],
  };
}

function landed({ hosts, stores }: StoresState): string | undefined {
  const failed = hosts.find((h) => h.failed !== '' && stores.some((log) => log.some((e) => e?.id === h.failed)));
  return failed && `${failed.failed} was reported as a failure, and it is in the log`;
}

function broken({ stores }: StoresState): string | undefined {
  const at = stores.findIndex((log) => log.length > 0 && !isWhole(log));
  return at < 0 ? undefined : `the log of the ${['real', 'other'][at]} store is broken`;
}

const isWhole = (log: Log): boolean =>
  log.every((entry, index) => entry !== null && same(entry.before, index === 0 ? [] : chain(log[index - 1]!)));

function put(log: Log, entry: Entry): Log {
  const next = [...log];
  while (next.length < entry.before.length) next.push(null);
  next[entry.before.length] = entry;
  return next;
}

const withStore = (state: StoresState, store: 0 | 1, log: Log): StoresState['stores'] =>
  store === 0 ? [log, state.stores[1]] : [state.stores[0], log];

function environment(state: StoresState, { swaps }: StoresConfiguration, emit: Emit<StoresState>): void {
  for (const late of state.net) {
    const net = state.net.filter((other) => other !== late);
    const log = state.stores[late.store];
    const stores = log[late.entry.before.length] ? state.stores : withStore(state, late.store, put(log, late.entry));
    emit(`the late ${late.entry.id} arrives`, { ...state, net, stores });
  }
  if (state.swaps === swaps) return;
  const swapped = { ...state, swaps: state.swaps + 1 };
  if (state.mounted === 1) emit('the store comes back', { ...swapped, mounted: 0 });
  else if (state.stores[1].length > 0) emit('the other store is there again', { ...swapped, mounted: 1 });
  else replaceStore(state, swapped, emit);
}

function replaceStore(state: StoresState, swapped: StoresState, emit: Emit<StoresState>): void {
  const [real] = state.stores;
  const replace = (copy: Log, what: string): void => {
    emit(`the store vanishes, ${what} is in its place`, { ...swapped, mounted: 1, stores: [real, copy] });
  };
  for (let kept = 0; kept <= real.length; kept++) {
    replace(real.slice(0, kept), kept === 0 ? 'an empty one' : `a copy that ends at ${kept}`);
  }
  // A copy that is not finished, or has lost something.
  for (let lost = 1; lost < real.length; lost++) replace(real.with(lost - 1, null), `a copy without ${lost}`);
}

/** What one host may do next. */
class Turn {
  readonly #state: StoresState;
  readonly #index: number;
  readonly #configuration: StoresConfiguration;
  readonly #keeps: (rule: Rule) => boolean;
  readonly #emit: Emit<StoresState>;
  readonly #self: Host;
  /** What is mounted. */
  readonly #log: Log;

  constructor(
    state: StoresState,
    index: number,
    configuration: StoresConfiguration,
    keeps: (rule: Rule) => boolean,
    emit: Emit<StoresState>,
  ) {
    this.#state = state;
    this.#index = index;
    this.#configuration = configuration;
    this.#keeps = keeps;
    this.#emit = emit;
    this.#self = state.hosts[index]!;
    this.#log = state.stores[state.mounted];
  }

  step(): void {
    const { pc, jobs } = this.#self;
    if (pc === 'closed') this.#open();
    if (pc === 'idle' && jobs < this.#configuration.jobs[this.#index]!) this.#send();
    if (pc === 'sent') this.#ask(this.#self.entry!, 'asks again for');
    if (pc === 'created' || pc === 'listed') this.#look();
  }

  #become(label: string, changes: Partial<Host>, rest: Partial<StoresState> = {}): void {
    const hosts = this.#state.hosts.with(this.#index, { ...this.#self, ...changes });
    this.#emit(`host ${this.#index} ${label}`, { ...this.#state, ...rest, hosts });
  }

  #open(): void {
    if (!isWhole(this.#log) || this.#log.length === 0) return;
    const at = through(this.#log);
    this.#become(`opens at ${at.length}`, { pc: 'idle', at, confirmed: at.length });
  }

  #send(): void {
    const { at, isOpen, jobs } = this.#self;
    const entry: Entry = { id: `${'ab'[this.#index]}${jobs + 1}${isOpen ? 'commit' : 'open'}`, before: at };
    this.#ask(entry, `sends ${entry.id} to`);
    if (!this.#configuration.isLate || !isOpen) return;
    const net = [...this.#state.net, { store: this.#state.mounted, entry }];
    this.#become(`sends ${entry.id} to ${at.length + 1}: no answer`, { pc: 'sent', entry }, { net });
  }

  /** A PUT that is answered. */
  #ask(entry: Entry, what: string): void {
    const number = entry.before.length + 1;
    const there = this.#log[number - 1];
    if (there && !same(chain(there), chain(entry))) {
      const follows = same(there.before, entry.before);
      const lost = { pc: 'idle', entry: null, at: follows ? chain(there) : this.#self.at } as const;
      // Another's entry may have ended the session; the job begins anew.
      this.#become(`${what} ${number}: another's`, { ...lost, isOpen: false, jobs: this.#self.jobs + 1 });
      return;
    }
    const stores = withStore(this.#state, this.#state.mounted, put(this.#log, entry));
    this.#won(`${what} ${number}: its own`, entry, stores);
  }

  #won(label: string, entry: Entry, stores: StoresState['stores']): void {
    const at = chain(entry);
    if (!this.#self.isOpen) this.#become(label, { pc: 'idle', at, entry: null, isOpen: true }, { stores });
    else if (this.#keeps('P5.confirm')) this.#become(label, { pc: 'created', at, entry }, { stores });
    else this.#become(label, this.#success({ ...this.#self, at, entry }, stores[this.#state.mounted]), { stores });
  }

  /** The listing after the creation: it may lack one entry that is there. */
  #look(): void {
    this.#judge(this.#log, 'lists');
    const { lies } = this.#state;
    if (lies === this.#configuration.lies) return;
    for (const [index, entry] of this.#log.entries()) {
      if (entry === null) continue;
      this.#judge(this.#log.with(index, null), `lists, without ${index + 1}`, { lies: lies + 1 });
    }
  }

  #judge(listing: Log, label: string, rest: Partial<StoresState> = {}): void {
    const { pc, confirmed, at, entry, jobs } = this.#self;
    if (this.#shows(listing)) {
      const newest = through(listing);
      this.#become(`${label}: success`, this.#success({ ...this.#self, at: newest }, this.#log), rest);
    } else if (pc === 'created' && this.#keeps('P5.twice')) {
      this.#become(`${label}: not there, lists again`, { pc: 'listed' }, rest);
    } else {
      const hasVanished = this.#state.swaps > 0 || (rest.lies ?? this.#state.lies) > 1;
      const mistake = !hasVanished ? `host ${this.#index} is alarmed, and nothing is missing` : '';
      const failed = this.#keeps('P5.unknown') ? '' : entry!.id;
      const over = { pc: 'idle', entry: null, isOpen: false, jobs: jobs + 1 } as const;
      this.#become(`${label}: gone`, { ...over, at: at.slice(0, confirmed), failed, mistake }, rest);
    }
  }

  /** Whether a listing shows what was confirmed last, everything since, and no gap. */
  #shows(listing: Log): boolean {
    const { at, confirmed } = this.#self;
    for (let number = confirmed; number <= at.length; number++) {
      const isLast = number === confirmed;
      if (!isLast && number < at.length && !this.#keeps('P5.between')) continue;
      const listed = listing[number - 1];
      if (!listed) return false;
      // By its tag, or else by its size.
      const isTold = this.#keeps(isLast ? 'P5.tag' : 'P5.ownTag');
      if (isTold && !same(chain(listed), at.slice(0, number))) return false;
    }
    const newest = listing.findLastIndex((entry) => entry !== null) + 1;
    if (this.#keeps('P5.whole') && listing.slice(0, newest).includes(null)) return false;
    // What is newer is read, down to its own newest one: a tail counts as read (see `limit-freed-name`).
    return newest === at.length || same(through(listing).slice(0, at.length), at);
  }

  #success(self: Host, log: Log): Partial<Host> {
    const own = chain(self.entry!);
    // Below what was confirmed before, names that were freed and taken again show in no listing: `limit-freed-name`.
    const since = log.slice(self.confirmed - 1, own.length);
    const follows = since.every((entry, index) => entry && same(chain(entry), own.slice(0, self.confirmed + index)));
    const isThere = follows && since.length > own.length - self.confirmed && !log.slice(0, own.length).includes(null);
    const mistake = isThere ? '' : `${self.entry!.id} is reported, and the log is not the one that it belongs to`;
    const { at, jobs } = self;
    return { pc: 'idle', at, confirmed: at.length, entry: null, isOpen: false, jobs: jobs + 1, mistake };
  }
}
