/** L3 to L5: how a host finds the newest state. Every request is a step of its own, and it may sleep between any two. */
import { fold, kindOf, lastWord, numberOf } from './chains.ts';
import { checkpointsOf, type Host, isUsable, mounted, newestOf, type Shared, type Store } from './ending-state.ts';
import type { HostTurn } from './host-turn.ts';

/** One page of a small log. */
const PAGE = 2;

/** A listing: of everything at one moment, or of the newest part first. */
export function list(turn: HostTurn): void {
  const { state, self, world } = turn;
  const store = mounted(state);
  const { pages = 'one' } = world.configuration;
  const since = numberOf(state.shared.truth);
  if (pages === 'inverted' && !world.keeps('L4.order')) listed(turn, lowestPage(store), since);
  else if (pages === 'two' && self.pc !== 'paging') {
    turn.become('lists the first page', { pc: 'paging', shown: upperPart(store, newestOf(store) - PAGE), since });
  } else if (self.pc === 'paging') {
    const from = newestOf(self.shown!) - PAGE;
    listed(turn, joined(self.shown!, store, from), self.since);
  } else {
    listed(turn, store, since);
    lie(turn, store, since);
  }
}

/** A listing that lacks something below the newest entry. */
function lie(turn: HostTurn, store: Store, since: number): void {
  const { shared } = turn.state;
  if (shared.lies >= (turn.world.configuration.lies ?? 0)) return;
  const newest = newestOf(store);
  const rest = { shared: { ...shared, lies: shared.lies + 1 } };
  for (let number = 1; number < newest; number++) {
    if (!store.log[number]) continue;
    listed(turn, { ...store, log: store.log.with(number, '') }, since, `, without ${number}`, rest);
  }
}

const upperPart = ({ log, checkpoints }: Store, from: number): Store => ({
  log: log.map((entry, number) => (number > from ? entry : '')),
  checkpoints: checkpoints.map((checkpoint, number) => (number > from ? checkpoint : '')),
});

function joined(upper: Store, store: Store, from: number): Store {
  const merge = (above: readonly string[], below: readonly string[]) =>
    Array.from({ length: Math.max(above.length, Math.min(below.length, from + 1)) }, (_, number) =>
      number > from ? (above[number] ?? '') : (below[number] ?? ''),
    );
  return { log: merge(upper.log, store.log), checkpoints: merge(upper.checkpoints, store.checkpoints) };
}

function lowestPage({ log, checkpoints }: Store): Store {
  const numbers = [...log.keys()].filter((number) => log[number] || checkpoints[number]).slice(0, PAGE);
  const end = (numbers.at(-1) ?? 0) + 1;
  return { log: log.slice(0, end), checkpoints: checkpoints.slice(0, end) };
}

function listed(turn: HostTurn, shown: Store, since: number, what = '', rest: { shared?: Shared } = {}): void {
  const { self, world } = turn;
  const newest = newestOf(shown);
  const label = `lists${what}`;
  const gap = gapIn(shown, newest);
  const isWanting = newest === 0 || (gap > 0 && world.keeps('L4.whole'));
  if (isWanting) {
    doubt(turn, label, newest === 0 ? 'an empty log' : `no entry ${gap} below ${newest}`, rest);
    return;
  }
  if (self.sent !== '' && shown.log[newest] === self.sent) {
    // A tail would not show what is wrong below it, so it does not read on.
    const other = otherIn(turn, shown);
    if (other === 0) turn.confirm(`${label}: its own is the newest`, rest);
    else doubt(turn, label, `entry ${other} is another's`, rest);
    return;
  }
  turn.become(`${label} up to ${newest}`, { pc: 'listed', shown, since }, rest);
}

/** A number since what was confirmed last, and that one, at which a listing shows another entry; 0 if there is none. */
function otherIn({ self, world }: HostTurn, shown: Store): number {
  const { sent, confirmed } = self;
  const { count, through, floor } = fold(sent);
  for (let number = Math.max(1, numberOf(confirmed)); number < count; number++) {
    if (number <= floor) continue; // It may have been deleted.
    const isLooked = world.keeps(number === numberOf(confirmed) ? 'P5.tag' : 'P5.between');
    if (isLooked && shown.log[number] !== through[number]) return number;
  }
  return 0;
}

/** A number that a listing lacks between the newest entry and the newest checkpoint; 0 if there is none. */
function gapIn(shown: Store, newest: number): number {
  const [checkpoint = 0] = checkpointsOf(shown, newest);
  for (let number = newest; number > checkpoint; number--) if (!shown.log[number]) return number;
  return 0;
}

/** L5: something is not there. Two listings that agree make it a fact. */
function doubt(turn: HostTurn, label: string, what: string, rest: { shared?: Shared } = {}): void {
  const { self, world } = turn;
  if (self.doubt !== what && world.keeps('L5.twice')) {
    turn.become(`${label}: ${what}, lists again`, { ...LOOK, doubt: what }, rest);
  } else turn.refuse(`${label}: ${what}`, 'LOG_TRUNCATED', rest);
}

export const LOOK = { pc: 'look', shown: null, read: '', low: 0, useless: 0 } as const satisfies Partial<Host>;

/** The newest entry, by the name that the listing showed. */
export function readNewest(turn: HostTurn): void {
  const { state, self, world } = turn;
  const { tail = 1, hasTags = true } = world.configuration;
  const shown = self.shown!;
  const newest = newestOf(shown);
  const found = mounted(state).log[newest] ?? '';
  if (found === '') {
    doubt(turn, `reads ${newest}`, `entry ${newest} is gone`);
    return;
  }
  if (hasTags && found !== shown.log[newest] && world.keeps('L3.tag')) {
    turn.become(`reads ${newest}: another tag`, { ...LOOK, doubt: '' });
    return;
  }
  const low = Math.max(1, newest - tail + 1);
  const pc = hasTags ? 'read' : 'again';
  turn.become(`reads ${newest}, ${lastWord(found)}`, { pc, read: found, low });
}

/** Without tags a second listing must show the same newest number. */
export function listAgain(turn: HostTurn): void {
  const { state, self, world } = turn;
  const newest = newestOf(mounted(state));
  const isSame = newest === newestOf(self.shown!) || !world.keeps('L3.twice');
  if (isSame) turn.become(`lists again: still ${newest}`, { pc: 'read' });
  else turn.become(`lists again: ${newest}`, { ...LOOK, doubt: '' });
}

/** Down by hash to a checkpoint, or to the first entry. */
export function readDown(turn: HostTurn): void {
  const { state, self } = turn;
  const store = mounted(state);
  const numbers = checkpointsOf(self.shown!, numberOf(self.read)).slice(self.useless);
  const [checkpoint = 0] = numbers;
  const below = self.low - 1;
  if (below > checkpoint) {
    readEntry(turn, below);
    return;
  }
  if (checkpoint === 0) {
    opened(turn, `has read all entries down to 1`);
    return;
  }
  const found = store.checkpoints[checkpoint];
  const label = `reads checkpoint ${checkpoint}`;
  if (!found) {
    doubt(turn, label, `checkpoint ${checkpoint} is gone`);
    return;
  }
  if (isUsable(found, self.read, checkpoint)) {
    opened(turn, label);
    return;
  }
  turn.become(`${label}: useless`, { useless: self.useless + 1 });
}

function readEntry(turn: HostTurn, number: number): void {
  const { state, self, world } = turn;
  const found = mounted(state).log[number] ?? '';
  const label = `reads ${number}`;
  if (found === '') {
    doubt(turn, label, `entry ${number} is gone`);
    return;
  }
  if (found === fold(self.read).through[number]) {
    turn.become(label, { low: number });
    return;
  }
  const hasOtherTag = (world.configuration.hasTags ?? true) && found !== self.shown!.log[number];
  if (hasOtherTag) turn.become(`${label}: another tag`, { ...LOOK, doubt: '' });
  else doubt(turn, label, `entry ${number} is another's`);
}

/** It has the state of the newest entry. */
function opened(turn: HostTurn, label: string): void {
  const { state, self } = turn;
  const { read, low, since, confirmed, sent } = self;
  const { through } = fold(read);
  const known = numberOf(confirmed);
  // Exact above the checkpoint; what lies below is for anchors.
  if (known > numberOf(read) || (known >= low - 1 && through[known] !== confirmed)) {
    turn.refuse(label, 'REPOSITORY_ROLLED_BACK');
    return;
  }
  const isNewest = state.shared.truth.startsWith(read) && numberOf(read) >= since;
  const mistake = isNewest ? '' : `it believes ${read}`;
  const knowledge = known >= low - 1 ? turn.knowing(confirmed, read) : {};
  const clear = { ...LOOK, pc: 'idle', doubt: '', since: 0, sent: '', mistake, isStale: false } as const;
  const base: Partial<Host> = { ...clear, ...knowledge, at: read, confirmed: read };
  if (sent === '') turn.opened(`${label}: it is open at ${numberOf(read)}`, base);
  else judge(turn, label, base);
}

/** L2: what became of an own entry that is not the newest. */
function judge(turn: HostTurn, label: string, base: Partial<Host>): void {
  const { self, world } = turn;
  const { read, low, sent } = self;
  const number = numberOf(sent);
  const isCommit = kindOf(lastWord(sent)) === 'c';
  if (number >= low - 1) {
    const { through, floor } = fold(read);
    const isThere = through[number] === sent;
    // Its number was taken, so somebody has broken the log: strays are where numbers are freed.
    if (!isThere && number > floor && world.keeps('L6.floor')) {
      doubt(turn, label, `its entry ${number} is not in the log`);
      return;
    }
    const changes = isThere && isCommit ? turn.success(base) : base;
    turn.opened(`${label}: its entry is ${isThere ? '' : 'not '}there`, changes);
  } else if (isCommit && !world.keeps('L2.state')) {
    turn.opened(`${label}: its entry is gone`, turn.failure(base));
  } else turn.opened(`${label}: its entry is gone`, base);
}
