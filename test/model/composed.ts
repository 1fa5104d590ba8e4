/**
 * Deletion, adoption, twins and pages in one history: a log that ends (L1, L2, L6), whose sessions adopt one another (L12, L13), and
 * whose rows lie in pages of checkpoints (L8, L9). What each of these does by itself is explored in more detail elsewhere: here looking
 * is one step, and a page one object. Hosts sleep between deciding and sending, between sending and looking, and between
 * listing folders, storing packs and committing; everything that may be deleted is, at any later time and in any order.
 */
import { foldComposed, follow, numberOf, sessionOf } from './composed-chain.ts';
import {
  type Checkpoint,
  type ComposedConfiguration,
  type ComposedHost,
  type ComposedRole,
  type ComposedShared,
  type ComposedState,
  type ComposedStore,
  digestOf,
  held,
  listed,
  newestOf,
  numberOfPage,
  put,
  type Rows,
  rowsOfPage,
  sorted,
  usable,
  withEntry,
} from './composed-state.ts';
import { step } from './composed-writer.ts';
import type { Emit, Model } from './explore.ts';
import { Interned } from './interned.ts';
import type { Rule } from './rules.ts';

export function composedModel(
  configuration: ComposedConfiguration,
  without: readonly Rule[] = [],
): Model<ComposedState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const codec = new Interned<ComposedState>(
    ({ store, shared, hosts }) => [store, shared, ...hosts],
    ([store, shared, ...hosts]) => ({
      ...{ store: store as ComposedStore, shared: shared as ComposedShared, hosts: hosts as ComposedHost[] },
    }),
  );
  return {
    initial: () => start(configuration),
    successors: (state, emit) => {
      for (const late of state.shared.net) {
        const rest = { ...state, shared: { ...state.shared, net: [] } };
        emit(`the late entry lands at ${numberOf(late)}`, withEntry(rest, late));
      }
      remove(state, keeps, emit);
      for (const [index, role] of configuration.roles.entries()) {
        step({ configuration, keeps, state, index, role, self: state.hosts[index]!, emit });
      }
    },
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    // Everybody may die anywhere.
    mayRest: () => true,
    invariants: [
      { name: 'I1: the packs of every backup are there and not condemned', broken: lostPacks },
      { name: 'I2: a success that was reported is in the log, and a failure never is', broken: untrue },
      { name: 'I3: one open session of the volume', broken: doubled },
      { name: 'I4: a session is committed by its own writer only', broken: stolen },
      { name: 'I6: nobody believes a stray or an old state', broken: misled },
      { name: 'I6: the newest state can be opened, also when one checkpoint is lost', broken: unopenable },
      { name: 'a checkpoint of a state with the present floor has its pages', broken: lostPage },
      { name: 'the rows of every state are what was committed and not forgotten', broken: wrongRows },
    ],
  };
}

const NO_ROWS: Rows = { pages: [], hot: [], forgotten: [], pinned: [] };

function start({ log, checkpoints, packs, roles }: ComposedConfiguration): ComposedState {
  const truth = log.reduce(follow, '');
  const { through } = foldComposed(truth);
  const stored = checkpoints.map(({ number, pages = [] }): Checkpoint => {
    const chain = through[number]!;
    return { letter: 'i', chain, rows: rowsAt(chain, pages) };
  });
  const pages = sorted([...stored.flatMap(({ rows }) => rows.pages), ...roles.flatMap((role) => role.pages ?? [])]);
  return {
    store: { log: [...through], checkpoints: stored, pages, packs: sorted(packs) },
    shared: { truth, floors: [], doomed: [], net: [] },
    hosts: roles.map((role) => asleep(role, log, through, stored)),
  };
}

function rowsAt(chain: string, pages: readonly string[]): Rows {
  const { backups } = foldComposed(chain);
  const live = backups.map(({ row }) => row);
  const paged = pages.flatMap(rowsOfPage);
  const hot = live.filter((row) => !paged.includes(row));
  return { ...NO_ROWS, pages, hot, forgotten: paged.filter((row) => !live.includes(row)) };
}

function asleep(
  { at, session, own = [], pages }: ComposedRole,
  log: readonly string[],
  through: readonly string[],
  stored: readonly Checkpoint[],
): ComposedHost {
  const known = through[at ?? log.length]!;
  const newest = stored.findLast(({ chain }) => known.startsWith(chain));
  const isOpen = session !== undefined;
  return {
    ...{ pc: 'idle', at: known, confirmed: known, rows: rowsAt(known, pages ?? newest?.rows.pages ?? []), sent: '' },
    ...{
      session: isOpen ? `${session}|${log[session - 1]!}` : '',
      hasListed: isOpen,
      found: [],
      own,
      commits: [],
      past: [],
    },
    ...{ next: null, jobs: 0, built: 0, made: 0, forgets: 0, crashes: 0, reported: [], failed: [], mistake: '' },
  };
}

/** What may be deleted is: in any order, by anyone, at any time. */
function remove(state: ComposedState, keeps: (rule: Rule) => boolean, emit: Emit<ComposedState>): void {
  const { store, shared } = state;
  const floor = Math.max(0, ...shared.floors.map(({ number }) => number));
  // Nobody asks for numbers up to what everybody has confirmed.
  const known = Math.min(...state.hosts.map(({ confirmed }) => numberOf(confirmed)));
  for (let number = known + 1; number <= floor; number++) {
    if (store.log[number]) {
      emit(`entry ${number} is deleted`, { ...state, store: { ...store, log: put(store.log, number, '') } });
    }
  }
  for (const checkpoint of store.checkpoints) {
    if (numberOf(checkpoint.chain) >= floor) continue;
    const checkpoints = store.checkpoints.filter((each) => each !== checkpoint);
    emit(`checkpoint ${numberOf(checkpoint.chain)} is deleted`, { ...state, store: { ...store, checkpoints } });
  }
  const isNamed = (page: string) => keeps('L8.number') && shared.floors.some(({ pages }) => pages.includes(page));
  for (const page of store.pages) {
    const isDeletable = keeps('L8.number')
      ? shared.floors.some(({ number, pages }) => numberOfPage(page) < number && !pages.includes(page))
      : floor > 0 && !store.checkpoints.some(({ rows }) => rows.pages.includes(page)) && !isNamed(page);
    const pages = store.pages.filter((each) => each !== page);
    if (isDeletable) emit(`page ${page} is deleted`, { ...state, store: { ...store, pages } });
  }
  const committed = foldComposed(shared.truth).rows.flatMap(({ packs }) => packs);
  for (const pack of store.packs) {
    const isDoomed =
      shared.doomed.includes(pack) || (shared.doomed.includes(`${sessionOf(pack)}/`) && !committed.includes(pack));
    const packs = store.packs.filter((each) => each !== pack);
    if (isDoomed) emit(`pack ${pack} is deleted`, { ...state, store: { ...store, packs } });
  }
}

function lostPacks({ store, shared }: ComposedState): string | undefined {
  const state = foldComposed(shared.truth);
  for (const pack of state.backups.flatMap(({ packs }) => packs)) {
    if (!store.packs.includes(pack)) return `a backup has pack ${pack}, which is not there`;
    if (shared.doomed.includes(pack) || state.condemned.includes(pack))
      return `a backup has pack ${pack}, which is condemned`;
  }
  return undefined;
}

function untrue({ hosts, shared }: ComposedState): string | undefined {
  const { words } = foldComposed(shared.truth);
  for (const { reported, failed } of hosts) {
    const unheard = reported.find((word) => !words.includes(word));
    if (unheard !== undefined) return `${unheard} was reported as a success, and the log does not have it`;
    const denied = failed.find((word) => words.includes(word));
    if (denied !== undefined) return `${denied} was reported as failed, and the log has it`;
  }
  return undefined;
}

function doubled({ shared }: ComposedState): string | undefined {
  const open = foldComposed(shared.truth).sessions.filter(({ isOpen }) => isOpen);
  return open.length > 1 ? `sessions ${open.map(({ number }) => number).join(' and ')} are open` : undefined;
}

function stolen({ shared }: ComposedState): string | undefined {
  const { foreign } = foldComposed(shared.truth);
  return foreign === '' ? undefined : `${foreign} commits a session that another entry opened`;
}

function misled({ hosts, shared }: ComposedState): string | undefined {
  for (const { mistake, confirmed } of hosts) {
    if (mistake !== '') return mistake;
    if (!shared.truth.startsWith(confirmed)) return `${confirmed} counts as confirmed, and the log is ${shared.truth}`;
  }
  return undefined;
}

/** From two checkpoints once there is a floor: one of them may be lost. */
function unopenable({ store, shared }: ComposedState): string | undefined {
  const newest = newestOf(store);
  const read = store.log[newest]!;
  if (read !== shared.truth) return `${read} is opened, and the log is ${shared.truth}`;
  const { through, floor } = foldComposed(read);
  const isWhole = (from: number) => through.every((each, number) => number <= from || store.log[number] === each);
  const from = usable(store, read).filter(({ chain }) => isWhole(numberOf(chain)));
  const last = shared.floors.reduce((most, { number }) => Math.max(most, number), 0);
  if (last === 0 || from.length > 1) return undefined;
  return `above floor ${floor} there is ${from.length === 0 ? 'no checkpoint' : `only checkpoint ${digestOf(from[0]!)}`}`;
}

function lostPage({ store, shared }: ComposedState): string | undefined {
  const { floor } = foldComposed(shared.truth);
  for (const { chain, rows } of store.checkpoints) {
    if (floor === 0 || foldComposed(chain).floor !== floor || !shared.truth.startsWith(chain)) continue;
    const page = rows.pages.find((each) => !store.pages.includes(each));
    if (page !== undefined) return `page ${page} of checkpoint ${numberOf(chain)} is gone`;
  }
  return undefined;
}

/** Of every checkpoint of the log, and of what everybody has confirmed. */
function wrongRows({ store, shared, hosts }: ComposedState): string | undefined {
  const all = [...store.checkpoints, ...hosts.map(({ confirmed, rows }) => ({ chain: confirmed, rows }))];
  for (const { chain, rows } of all) {
    if (!shared.truth.startsWith(chain)) continue;
    const { backups, sessions, count } = foldComposed(chain);
    const live = backups.map(({ row }) => row).join();
    if (listed(rows).join() !== live) return `state ${count} lists ${listed(rows).join()}, and live are ${live}`;
    const base = sessions.find((each) => each.isOpen && each.base > 0 && !held(rows).includes(each.base));
    if (base) return `state ${count} does not have row ${base.base}, the base of an open session`;
  }
  return undefined;
}
