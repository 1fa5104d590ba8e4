/** What one writer may do next who adopts what others have left behind (`adopting.ts`). */
import type { Emit } from './explore.ts';
import type { Rule } from './rules.ts';

export interface Session {
  readonly number: number;
  readonly who: number;
  readonly is: 'open' | 'fenced' | 'aborted';
  /** A letter each. A commit takes its own from the sessions that it adopted, and nobody adopts one that has none left. */
  readonly volumes: string;
  /** The sessions that its `open` names. */
  readonly adopted: readonly number[];
}

export interface AdoptingLog {
  readonly number: number;
  readonly sessions: readonly Session[];
  /** Packs, and whole sessions, as `<session>/<k>` and `<session>/`. */
  readonly condemned: readonly string[];
  /** The packs of each backup. */
  readonly backups: readonly (readonly string[])[];
  readonly collections: number;
}

export interface Stored {
  readonly there: readonly string[];
  readonly sent: readonly string[];
  /** Packs that anyone may delete at any time: the entry that condemned them was confirmed. */
  readonly doomed: readonly string[];
}

export interface Adopter {
  readonly pc: 'start' | 'open' | 'listed' | 'end';
  /** Its session; 0 for none. */
  readonly session: number;
  /** What it found in the folders that it adopted, and what it has uploaded itself. */
  readonly found: readonly string[];
  readonly own: readonly string[];
  readonly jobs: number;
  readonly crashes: number;
  /** Sessions of its own that it remembers. */
  readonly past: readonly number[];
}

export interface AdoptingState {
  readonly log: AdoptingLog;
  readonly stored: Stored;
  readonly adopters: readonly Adopter[];
}

export interface AdoptingConfiguration {
  readonly adopters: readonly {
    readonly jobs?: number | undefined;
    readonly crashes?: number | undefined;
    readonly packs?: number | undefined;
    readonly mayAbort?: boolean | undefined;
    /** @defaultValue x */
    readonly volumes?: string | undefined;
  }[];
  readonly collections: number;
  readonly isLate?: boolean | undefined;
}

export type Keeps = (rule: Rule) => boolean;

export const NOBODY: Adopter = { pc: 'start', session: 0, found: [], own: [], jobs: 0, crashes: 0, past: [] };
export const sessionOf = (pack: string): number => Number(pack.slice(0, pack.indexOf('/')));
export const sorted = (packs: Iterable<string>): string[] => [...new Set(packs)].sort();

export const share = (one: string, other: string): boolean => [...one].some((volume) => other.includes(volume));

/** By its name, or with those of its session that no backup has. */
export const isCondemned = ({ condemned, backups }: AdoptingLog, pack: string): boolean =>
  condemned.includes(pack) ||
  (condemned.includes(`${sessionOf(pack)}/`) && !backups.some((packs) => packs.includes(pack)));

export class AdopterTurn {
  readonly #state: AdoptingState;
  readonly #index: number;
  readonly #configuration: AdoptingConfiguration;
  readonly #keeps: Keeps;
  readonly #emit: Emit<AdoptingState>;
  readonly #self: Adopter;

  constructor(
    state: AdoptingState,
    index: number,
    configuration: AdoptingConfiguration,
    keeps: Keeps,
    emit: Emit<AdoptingState>,
  ) {
    this.#state = state;
    this.#index = index;
    this.#configuration = configuration;
    this.#keeps = keeps;
    this.#emit = emit;
    this.#self = state.adopters[index]!;
  }

  step(): void {
    const { pc, jobs, crashes, own } = this.#self;
    const role = this.#configuration.adopters[this.#index]!;
    if (pc === 'start' && jobs < (role.jobs ?? 1)) this.#open();
    if (pc !== 'open' && pc !== 'listed') return;
    if (crashes < (role.crashes ?? 0)) this.#become('crashes', { ...this.#anew(), crashes: crashes + 1 });
    if (role.mayAbort) this.#abort();
    if (pc === 'open') {
      this.#list();
      return;
    }
    if (own.length < (role.packs ?? 1)) this.#upload();
    this.#commit();
  }

  #become(label: string, changes: Partial<Adopter>, rest: Partial<AdoptingState> = {}): void {
    const adopters = this.#state.adopters.with(this.#index, { ...this.#self, ...changes });
    this.#emit(`writer ${'abcd'[this.#index]} ${label}`, { ...this.#state, ...rest, adopters });
  }

  #anew(): Adopter {
    const { jobs, crashes, past, session } = this.#self;
    return { ...NOBODY, jobs, crashes, past: [...new Set([...past, session])] };
  }

  /** The `open` fences the volume's open session, and adopts it with every session that is listed as fenced. */
  #open(): void {
    const { log } = this.#state;
    const number = log.number + 1;
    const volumes = this.#volumes;
    const ours = log.sessions.filter(({ is, volumes: of }) => is !== 'aborted' && share(of, volumes));
    const listed = ours.map((session) => session.number);
    const known = this.#keeps('L12.listed') ? [] : this.#self.past;
    const all = [...new Set([...listed, ...known])].sort((a, b) => a - b);
    const adopted = this.#keeps('L12.all') ? all : all.slice(-1);
    const fenced = log.sessions.map((each) =>
      each.is === 'open' && ours.includes(each) && this.#keeps('L12.fence') ? { ...each, is: 'fenced' as const } : each,
    );
    const session: Session = { number, who: this.#index, is: 'open', volumes, adopted };
    const sessions = [...fenced, session];
    this.#become(
      `opens session ${number}, adopts ${adopted.join(' ') || 'none'}`,
      { pc: 'open', session: number },
      {
        log: { ...log, number, sessions },
      },
    );
  }

  /** The folders of the sessions that its own `open` names; without that rule also of those that a named one has adopted. */
  #list(): void {
    const { log, stored } = this.#state;
    const session = log.sessions.find(({ number }) => number === this.#self.session);
    if (!session) {
      this.#giveUp();
      return;
    }
    const folders = new Set(session.adopted);
    for (const number of this.#keeps('L12.all') ? [] : folders) {
      const known = log.sessions.find((each) => each.number === number);
      for (const deeper of known?.adopted ?? []) folders.add(deeper);
    }
    const found = stored.there.filter((pack) => folders.has(sessionOf(pack)));
    this.#become(`lists folders ${[...folders].join(' ')}: ${found.join(' ') || 'nothing'}`, { pc: 'listed', found });
  }

  #upload(): void {
    const { stored } = this.#state;
    const { session, own } = this.#self;
    const pack = `${session}/${'xyz'[own.length]}`;
    const there = sorted([...stored.there, pack]);
    this.#become(`uploads ${pack}`, { own: [...own, pack] }, { stored: { ...stored, there } });
    if (!this.#configuration.isLate || stored.sent.includes(pack)) return;
    const sent = sorted([...stored.sent, pack]);
    this.#become(
      `sends ${pack}, and dies`,
      { ...this.#anew(), jobs: this.#self.jobs + 1 },
      { stored: { ...stored, sent } },
    );
  }

  #abort(): void {
    const { log, stored } = this.#state;
    const { session, own, jobs } = this.#self;
    const is = this.#sessionIs();
    if (is === 'open') {
      const sessions = log.sessions.map((each) =>
        each.number === session ? { ...each, is: 'aborted' as const } : each,
      );
      this.#become(
        'aborts',
        { ...this.#anew(), jobs: jobs + 1 },
        { log: { ...log, number: log.number + 1, sessions } },
      );
    } else if (!this.#keeps('L13.named')) {
      const there = stored.there.filter((pack) => !own.includes(pack));
      this.#become('has been fenced, and deletes its packs', this.#over(), { stored: { ...stored, there } });
    }
  }

  get #volumes(): string {
    return this.#configuration.adopters[this.#index]!.volumes ?? 'x';
  }

  #sessionIs(): string | undefined {
    return this.#state.log.sessions.find(({ number }) => number === this.#self.session)?.is;
  }

  #over(): Partial<Adopter> {
    return { ...this.#anew(), jobs: this.#self.jobs + 1 };
  }

  #giveUp(): void {
    this.#become('is fenced: failure', this.#over());
  }

  /** P4: its session is open, and no pack that it names is condemned; others it does not name. */
  #commit(): void {
    const { log } = this.#state;
    const { session, found, own } = this.#self;
    if (this.#sessionIs() !== 'open') {
      this.#giveUp();
      return;
    }
    const { adopted } = log.sessions.find(({ number }) => number === session)!;
    // The fold checks what the session and its entry name; without this rule nothing of it.
    const isChecked = (pack: string) => [session, ...adopted].includes(sessionOf(pack)) && this.#keeps('L12.checked');
    const packs = sorted([...own, ...found].filter((pack) => !isChecked(pack) || !isCondemned(log, pack)));
    if (packs.length === 0) return;
    const left = (of: string) => [...of].filter((volume) => !this.#volumes.includes(volume)).join('');
    const sessions = log.sessions
      .filter(({ number }) => number !== session)
      .map((each) => (adopted.includes(each.number) ? { ...each, volumes: left(each.volumes) } : each));
    const after = { ...log, number: log.number + 1, sessions, backups: [...log.backups, packs] };
    this.#become(`commits ${packs.join(' ')}`, this.#over(), { log: after });
  }
}
