/**
 * L8 to L11: a state in two parts. Rows of backups are in the hot part or in pages, which lie in packs; whoever commits may move
 * them. Entries are appended in order here: a decision is made on the newest state, but a page was made of an older one, and
 * so was what a writer knows of packs (it may have jumped over deleted entries since). Backup n has its data in pack n, and what
 * it shares with its base or has found elsewhere in other packs; pages are packs from 100 on.
 */
import {
  type Actor,
  type Backup,
  type Catalogue,
  type CatalogueConfiguration,
  type CatalogueRole,
  type CatalogueState,
  collect,
  type Facts,
  FIRST_PAGE,
  forget,
  IDLE,
  isCondemned,
  isPageTaken,
  type Keeps,
  listedRows,
  type NewPage,
  type Session,
  sorted,
  start,
  withPage,
} from './catalogue-state.ts';
import type { Emit, Model } from './explore.ts';
import { Interned } from './interned.ts';
import type { Rule } from './rules.ts';

export function catalogueModel(
  configuration: CatalogueConfiguration,
  without: readonly Rule[] = [],
): Model<CatalogueState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const codec = new Interned<CatalogueState>(
    ({ catalogue, facts, actors }) => [catalogue, facts, ...actors],
    ([catalogue, facts, ...actors]) => ({
      ...{ catalogue: catalogue as Catalogue, facts: facts as Facts, actors: actors as Actor[] },
    }),
  );
  return {
    initial: () => start(configuration),
    successors: (state, emit) => {
      everybody(state, configuration, keeps, emit);
      for (const [index, role] of configuration.roles.entries()) {
        const turn = { state, index, role, keeps, emit };
        if (role.kind === 'reader') read(turn);
        else write(turn);
      }
    },
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    mayRest: ({ actors }) => actors.every(({ pc }) => pc === 'start' || pc === 'end'),
    invariants: [
      { name: 'the catalogue is what was committed and not forgotten', broken: wrongRows },
      { name: 'I1: nothing that a live backup or the catalogue needs is given up', broken: missing },
      { name: 'I3: one child a parent and volume', broken: siblings },
      { name: 'I8: no damage is reported that is not there', broken: ({ facts }) => facts.mistake || undefined },
    ],
  };
}

function everybody(
  state: CatalogueState,
  { forgets = [], collections = 0 }: CatalogueConfiguration,
  keeps: Keeps,
  emit: Emit<CatalogueState>,
): void {
  const { catalogue, facts } = state;
  for (const id of forgets) {
    if (listedRows(catalogue).includes(id)) emit(`backup ${id} is forgotten`, forget(state, id, keeps));
  }
  if (facts.collections < collections) {
    const collected = collect(state, keeps);
    if (collected) emit(`entry ${catalogue.number + 1} collects`, collected);
  }
  for (const { pack } of catalogue.condemned) {
    if (!facts.present.includes(pack)) continue;
    emit(`pack ${pack} is deleted`, {
      ...state,
      facts: { ...facts, present: facts.present.filter((p) => p !== pack) },
    });
  }
}

interface CatalogueTurn {
  readonly state: CatalogueState;
  readonly index: number;
  readonly role: CatalogueRole;
  readonly keeps: Keeps;
  readonly emit: Emit<CatalogueState>;
}

function become(
  { state, index, role, emit }: CatalogueTurn,
  label: string,
  actor: Partial<Actor>,
  rest: Partial<CatalogueState> = {},
): void {
  const actors = state.actors.with(index, { ...state.actors[index]!, ...actor });
  emit(`${role.kind} ${'abcd'[index]} ${label}`, { ...state, ...rest, actors });
}

function write(turn: CatalogueTurn): void {
  const { state, index, role } = turn;
  const { pc, jobs } = state.actors[index]!;
  if (pc === 'start' && jobs < (role.jobs ?? 1)) open(turn);
  if (pc === 'open') {
    if (role.merges) makePage(turn, role.merges);
    else commit(turn);
  }
  if (pc === 'made') commit(turn);
}

function open(turn: CatalogueTurn): void {
  const { state, index, role } = turn;
  const { catalogue, facts } = state;
  const { volume = 0 } = role;
  if (catalogue.sessions.some((session) => session.volume === volume)) return;
  const parent = catalogue.heads[volume] ?? 0;
  const isBase = role.isIncremental && listedRows(catalogue).includes(parent);
  const session: Session = { writer: index, volume, parent, base: isBase ? parent : 0, page: 0 };
  const known = facts.present.filter((pack) => pack < FIRST_PAGE && !isCondemned(catalogue, pack));
  const after = { ...catalogue, number: catalogue.number + 1, sessions: [...catalogue.sessions, session] };
  const actor = { pc: 'open', known, knownAt: catalogue.number } as const;
  become(turn, `opens a session, parent ${parent}${isBase ? ' is its base' : ''}`, actor, { catalogue: after });
}

/** A page of the rows that are there now; the entry that names it comes later. */
function makePage(turn: CatalogueTurn, merges: 'rows' | 'all'): void {
  const { state, index, role } = turn;
  const { catalogue, facts } = state;
  const replaced = merges === 'all' ? catalogue.pages : [];
  if (replaced.some(({ pack }) => !facts.present.includes(pack))) return;
  const taken = role.hasStray ? [...catalogue.hot, -(facts.backups.length + 1)] : catalogue.hot;
  const moved = replaced.flatMap(({ rows }) => rows).filter((id) => !catalogue.forgotten.includes(id));
  const pack = FIRST_PAGE + facts.pages;
  const rows = sorted([...taken, ...moved]);
  const page: NewPage = { pack, rows, taken, replaced: replaced.map((each) => each.pack) };
  const sessions = catalogue.sessions.map((session) =>
    session.writer === index ? { ...session, page: pack } : session,
  );
  become(
    turn,
    `makes page ${pack} of ${rows.join(' ')}`,
    { pc: 'made', page },
    {
      catalogue: { ...catalogue, sessions },
      facts: { ...facts, pages: facts.pages + 1, present: sorted([...facts.present, pack]) },
    },
  );
}

function commit(turn: CatalogueTurn): void {
  const { state, index, role, keeps } = turn;
  const { catalogue, facts, actors } = state;
  const actor = actors[index]!;
  const session = catalogue.sessions.find(({ writer }) => writer === index)!;
  const id = facts.backups.length + 1;
  const base = facts.backups[session.base - 1]?.packs ?? [];
  const wanted = role.wants !== undefined && isUsable(turn, role.wants) ? [role.wants] : [];
  const backup: Backup = {
    id,
    volume: session.volume,
    parent: session.parent,
    packs: sorted([...base, ...wanted, id]),
  };
  const backups = [...facts.backups, backup];
  let after: Catalogue = {
    ...{ ...catalogue, number: catalogue.number + 1, hot: [...catalogue.hot, id] },
    ...{ heads: catalogue.heads.with(session.volume, id), sessions: catalogue.sessions.filter((s) => s !== session) },
  };
  const isTaken = actor.page !== null && isPageTaken(catalogue, actor.page, keeps);
  if (isTaken) after = withPage(after, actor.page!);
  const present = sorted([...facts.present, id]);
  const what = isTaken ? `, with page ${actor.page!.pack}` : actor.page ? ', without its page' : '';
  become(
    turn,
    `commits backup ${id} of packs ${backup.packs.join(' ')}${what}`,
    { ...IDLE, jobs: actor.jobs + 1 },
    {
      catalogue: after,
      facts: { ...facts, backups, live: [...facts.live, id], present },
    },
  );
}

/** L10, of a pack that is neither its own nor its base's: what it knew counts if nothing has gone without a trace since. */
function isUsable({ state, index, keeps }: CatalogueTurn, pack: number): boolean {
  const { catalogue, facts, actors } = state;
  const { known, knownAt } = actors[index]!;
  if (isCondemned(catalogue, pack)) return false;
  if (known.includes(pack) && (knownAt >= catalogue.goneThrough || !keeps('L10.known'))) return true;
  // Looked up in the catalogue.
  return listedRows(catalogue).some((id) => facts.backups[id - 1]!.packs.includes(pack));
}

/** A reader lists the backups of the state that it has seen, page by page. */
function read(turn: CatalogueTurn): void {
  const { state, index, role, keeps } = turn;
  const { pc, jobs, unread } = state.actors[index]!;
  const { catalogue, facts } = state;
  if (pc === 'start' && jobs < (role.jobs ?? 1)) {
    become(turn, `looks: entry ${catalogue.number}`, { pc: 'open', unread: catalogue.pages.map(({ pack }) => pack) });
  }
  if (pc !== 'open') return;
  const [next, ...rest] = unread;
  if (next === undefined) {
    become(turn, 'has read all pages', { ...IDLE, pc: 'end' });
    return;
  }
  if (facts.present.includes(next)) {
    become(turn, `reads page ${next}`, { unread: rest });
    return;
  }
  if (keeps('L11.again')) become(turn, `misses page ${next}, looks again`, { ...IDLE });
  else
    become(
      turn,
      `misses page ${next}`,
      { pc: 'end' },
      { facts: { ...facts, mistake: `page ${next} is reported as damaged` } },
    );
}

function wrongRows({ catalogue, facts }: CatalogueState): string | undefined {
  const listed = listedRows(catalogue);
  const live = sorted(facts.live);
  return listed.join() === live.join() ? undefined : `it lists ${listed.join(' ')}, and live are ${live.join(' ')}`;
}

function missing({ catalogue, facts }: CatalogueState): string | undefined {
  const isLost = (pack: number) => isCondemned(catalogue, pack) || !facts.present.includes(pack);
  for (const id of facts.live) {
    const lost = facts.backups[id - 1]!.packs.find(isLost);
    if (lost !== undefined) return `live backup ${id} refers to pack ${lost}, which is condemned or gone`;
  }
  const page = catalogue.pages.find(({ pack }) => isLost(pack));
  return page && `the catalogue lists page ${page.pack}, which is condemned or gone`;
}

function siblings({ facts }: CatalogueState): string | undefined {
  for (const { id, volume, parent } of facts.backups) {
    const other = facts.backups.find((b) => b.id < id && b.volume === volume && b.parent === parent);
    if (other) return `backups ${other.id} and ${id} are both children of ${parent}`;
  }
  return undefined;
}
