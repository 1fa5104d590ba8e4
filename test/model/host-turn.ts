/** What one host may do next with a log that ends. */

import { beforeOf, type Folded, fold, follow, kindOf, lastWord, numberOf, type Session } from './chains.ts';
import { copyPacks, lookAfterCopying } from './copier.ts';
import {
  type EndingState,
  type EndingWorld,
  type Host,
  type HostRole,
  mounted,
  type Shared,
  withEntry,
} from './ending-state.ts';
import type { Emit } from './explore.ts';
import { LOOK, list, listAgain, readDown, readNewest } from './looking.ts';
import { prune } from './pruner.ts';

export class HostTurn {
  readonly world: EndingWorld;
  readonly state: EndingState;
  readonly index: number;
  readonly self: Host;
  readonly role: HostRole;
  readonly #emit: Emit<EndingState>;

  constructor(world: EndingWorld, state: EndingState, index: number, emit: Emit<EndingState>) {
    this.world = world;
    this.state = state;
    this.index = index;
    this.self = state.hosts[index]!;
    this.role = world.configuration.roles[index]!;
    this.#emit = emit;
  }

  get letter(): string {
    return 'abcd'[this.index]!;
  }

  step(): void {
    const { pc } = this.self;
    const { isSetBack = false } = this.world.configuration;
    if (isSetBack && this.role.isClosed && this.state.shared.swaps === 0) return;
    this.#crash();
    if (pc === 'idle') this.#decide();
    else if (pc === 'planned') this.#send();
    else if (pc === 'sent') this.#ask('sends again');
    else if (pc === 'occupied') this.#compare();
    else if (pc === 'created' || pc === 'look' || pc === 'paging') list(this);
    else if (pc === 'listed') readNewest(this);
    else if (pc === 'again') listAgain(this);
    else if (pc === 'read') readDown(this);
    else if (pc === 'packs') copyPacks(this);
    else if (pc === 'check') lookAfterCopying(this);
  }

  become(label: string, changes: Partial<Host>, rest: Partial<EndingState> = {}): void {
    const hosts = this.state.hosts.with(this.index, { ...this.self, ...changes });
    this.#emit(`${this.role.kind} ${this.letter} ${label}`, { ...this.state, ...rest, hosts });
  }

  refuse(label: string, code: string, rest: Partial<EndingState> = {}): void {
    // A commit whose outcome is not known is COMMIT_UNKNOWN, which promises nothing.
    this.become(
      `${label}: ${code}`,
      { ...LOOK, pc: 'refused', code, sent: '', session: '', since: 0, doubt: '' },
      rest,
    );
  }

  /** A listing has shown its own entry as the newest one. */
  confirm(label: string, rest: { shared?: Shared } = {}): void {
    const { sent } = this.self;
    const knowledge = this.knowing(this.self.confirmed, sent);
    const base = {
      ...LOOK,
      pc: 'idle',
      doubt: '',
      since: 0,
      at: sent,
      confirmed: sent,
      sent: '',
      ...knowledge,
    } as const;
    const changes = kindOf(lastWord(sent)) === 'c' ? this.success(base) : base;
    this.opened(label, changes, rest);
  }

  /** It goes on from a state that was confirmed. */
  opened(label: string, changes: Partial<Host>, rest: { shared?: Shared } = {}): void {
    const { kind } = this.role;
    const shared = rest.shared ?? this.state.shared;
    if (kind === 'reader' || kind === 'follower') this.become(label, { ...changes, pc: 'done' });
    else if (kind === 'copier') {
      this.become(label, { ...changes, pc: this.world.keeps('L20.packsLater') ? 'packs' : 'check' });
    } else if (kind === 'pruner') this.become(label, changes, { shared: permitted(shared, changes.at!) });
    else this.become(label, changes, { shared });
  }

  success(base: Partial<Host>): Partial<Host> {
    const { session, reported, jobs } = this.self;
    return { ...base, session: '', isCommitSent: false, reported: [...reported, session], jobs: jobs + 1 };
  }

  failure(base: Partial<Host>): Partial<Host> {
    const { session, failed, jobs } = this.self;
    return { ...base, session: '', isCommitSent: false, failed: [...failed, session], jobs: jobs + 1 };
  }

  /** Entry `word` follows what it believes. */
  plan(label: string, rest: string, changes: Partial<Host> = {}): void {
    const { at, built } = this.self;
    const word = `${this.letter}${built + 1}${rest}`;
    this.become(`${label} ${word}`, { ...changes, pc: 'planned', built: built + 1, sent: follow(at, word) });
  }

  #decide(): void {
    const { kind, jobs = 1 } = this.role;
    if (kind === 'pruner') {
      prune(this);
      return;
    }
    if (this.self.jobs >= jobs) return;
    if (kind === 'writer') this.#write();
    else if (kind === 'copier' && !this.world.keeps('L20.packsLater')) this.become('begins', { pc: 'packs' });
    else if (kind !== 'follower' || this.world.keeps('L3.down')) this.become('looks', { ...LOOK });
    else this.#askForNext();
  }

  /** Not the way to look: it asks for the entry above its own. */
  #askForNext(): void {
    const { at } = this.self;
    const found = mounted(this.state).log[numberOf(at) + 1] ?? '';
    const { truth } = this.state.shared;
    if (found !== '' && beforeOf(found) === at) {
      this.become(`reads ${lastWord(found)}`, { at: found });
      return;
    }
    const mistake = at === truth ? '' : `it believes that ${numberOf(at)} is the newest`;
    this.become(`finds no entry ${numberOf(at) + 1}`, { pc: 'done', mistake });
  }

  #write(): void {
    const { at, confirmed, session, isCommitSent } = this.self;
    const state = fold(at);
    if (session === '') {
      this.plan('prepares', 'o');
      return;
    }
    const [number = '', word = ''] = session.split('.');
    const isOwn = (listed: Session) =>
      listed.number === Number(number) && (listed.word === word || !this.world.keeps('L6.session'));
    const listed = state.sessions.find(isOwn);
    const isX = this.role.refersToX && this.#isXUsable(state) ? 'X' : '';
    if (listed?.isOpen) {
      this.plan('prepares', `c${number}.${word}.${isX}`, { isCommitSent });
      return;
    }
    if (at !== confirmed && this.world.keeps('L2.refused')) {
      this.become('looks before it gives up', { ...LOOK });
      return;
    }
    if (listed) {
      this.become('is fenced: failure', this.failure({}));
      return;
    }
    if (state.backups.includes(word)) {
      this.become('finds its backup: success', this.success({}));
      return;
    }
    const over = { session: '', isCommitSent: false, jobs: this.self.jobs + 1 };
    if (!isCommitSent) {
      this.become('finds no session of its own: the job starts again', over);
      return;
    }
    if (this.world.keeps('L2.unknown')) this.become('finds neither session nor backup: COMMIT_UNKNOWN', over);
    else this.become('finds neither session nor backup: failure', this.failure({}));
  }

  /** L10: X was known, and nothing has gone without a trace since; otherwise it is looked up. */
  #isXUsable({ isXCondemned, isXDropped, goneThrough }: Folded): boolean {
    const { knownAt } = this.self;
    if (isXCondemned) return false;
    const isKnown = knownAt > 0 && (knownAt >= goneThrough || !this.world.keeps('L10.known'));
    return isKnown || !isXDropped;
  }

  /** What it knows of X when it has read every entry from `before` to `chain`. */
  knowing(before: string, chain: string): Partial<Host> {
    const { knownAt } = this.self;
    if (knownAt !== numberOf(before)) return {};
    const { isXCondemned, isXDropped, count } = fold(chain);
    return { knownAt: isXCondemned || isXDropped ? 0 : count };
  }

  /** Entries that may be strays count for nothing. */
  #followed(chain: string): Partial<Host> {
    return this.world.keeps('L10.confirmed') ? {} : this.knowing(this.self.at, chain);
  }

  #send(): void {
    this.#ask('sends');
    const { sent, isCommitSent } = this.self;
    if (!this.role.isLate) return;
    const net = [...this.state.shared.net, sent].sort();
    const label = `sends ${lastWord(sent)} to ${numberOf(sent)}: no answer`;
    const isCommit = kindOf(lastWord(sent)) === 'c';
    this.become(
      label,
      { pc: 'sent', isCommitSent: isCommitSent || isCommit },
      { shared: { ...this.state.shared, net } },
    );
  }

  /** A PUT that is answered. */
  #ask(what: string): void {
    const { sent } = this.self;
    const number = numberOf(sent);
    const label = `${what} ${lastWord(sent)} to ${number}`;
    if (mounted(this.state).log[number]) {
      this.become(`${label}: exists`, { pc: 'occupied' });
      return;
    }
    const { shared } = this.state;
    const isTwice = this.world.configuration.isDuplicated ?? false;
    const net = isTwice ? [...shared.net, sent].sort() : shared.net;
    this.#created(`${label}: created`, withEntry({ ...this.state, shared: { ...shared, net } }, sent));
  }

  #created(label: string, { store, other, shared }: EndingState): void {
    const { sent } = this.self;
    const kind = kindOf(lastWord(sent));
    const rest = { store, other, shared };
    if (kind === 'o') {
      const session = `${numberOf(sent)}.${lastWord(sent)}`;
      this.become(
        label,
        { pc: 'idle', at: sent, sent: '', session, isCommitSent: false, ...this.#followed(sent) },
        rest,
      );
    } else if (this.world.keeps('L2.confirm')) {
      this.become(label, { pc: 'created', isCommitSent: kind === 'c' }, rest);
    } else {
      const base = { pc: 'idle', at: sent, sent: '' } as const;
      if (kind === 'c') this.become(label, this.success(base), rest);
      else this.become(label, base, { ...rest, shared: permitted(shared, sent) });
    }
  }

  /** What has the number: its own entry, or another's, or nothing any more. */
  #compare(): void {
    const { sent, at } = this.self;
    const number = numberOf(sent);
    const found = mounted(this.state).log[number] ?? '';
    const label = `reads ${number}`;
    if (found === '') {
      this.become(`${label}: gone, looks`, { ...LOOK });
      return;
    }
    if (found === sent) {
      this.#created(`${label}: its own`, this.state);
      return;
    }
    if (beforeOf(found) === at) {
      this.become(`${label}: another's`, { pc: 'idle', at: found, sent: '', ...this.#followed(found) });
      return;
    }
    if (this.world.keeps('L6.anew')) this.become(`${label}: it does not follow, opens anew`, { ...LOOK, sent: '' });
    else this.refuse(`${label}: it does not follow`, 'LOG_FORKED');
  }

  /** A process that starts again remembers what was confirmed. */
  #crash(): void {
    const { pc, crashes, confirmed } = this.self;
    if (crashes >= (this.role.crashes ?? 0) || pc === 'idle' || pc === 'done' || pc === 'refused') return;
    const dead = { ...LOOK, sent: '', session: '', at: confirmed, crashes: crashes + 1, doubt: '', since: 0 };
    this.become('crashes, and starts again', dead);
  }
}

/** What anyone may delete who goes by this state. */
function permitted(shared: Shared, chain: string): Shared {
  const { floor, isXCondemned } = fold(chain);
  const mayDelete = Math.max(shared.mayDelete, floor);
  const mayDeleteX = shared.mayDeleteX || isXCondemned;
  const isSame = mayDelete === shared.mayDelete && mayDeleteX === shared.mayDeleteX;
  return isSame ? shared : { ...shared, mayDelete, mayDeleteX };
}
