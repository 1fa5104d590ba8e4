/** A writer's life: open, upload, commit; or abort, cancel, crash, come back, take over. */

import { decideCommit, usableNode } from './commit.ts';
import type { Entry } from './log.ts';
import { packId, packName, place, placeName, sessionOf } from './objects.ts';
import { closureOf, isAcceptable } from './references.ts';
import { listed, nameOf, type Outcome, send, settle } from './send.ts';
import {
  BUSY,
  type Client,
  DECIDED,
  END,
  FAILURE,
  IDLE,
  NEW_CLIENT,
  NOTHING,
  SUCCESS,
  UNKNOWN,
  withClient,
  withPack,
} from './state.ts';
import { backupOf, isCondemned, openSessions, type View } from './view.ts';
import type { Turn, WriterRole } from './world.ts';

export type WriterTurn = Turn<WriterRole>;

/** A session has room for a pack, and for a second where blocks must be stored again. */
const PACKS_FOR_ONE_SESSION = 2;

export function stepWriter(turn: WriterTurn): void {
  const { client } = turn;
  if (client.pc === IDLE) open(turn);
  if (client.pc === UNKNOWN) settle(turn, outcome);
  if (client.pc === BUSY) work(turn);
  if (client.pc === DECIDED) sendDecided(turn);
  crash(turn);
}

const outcome: Outcome = {
  won(turn, entry, sequence) {
    switch (entry.type) {
      case 'open':
        return { pc: BUSY, session: sequence, acknowledged: 0, isUnanswered: false, told: NOTHING, toldSession: 0 };
      case 'commit':
        if (entry.partial) return { pc: BUSY, at: turn.client.at + 1 };
        return finished(turn, SUCCESS);
      default:
        return finished(turn, FAILURE);
    }
  },
  lost: (_turn, entry) => ({ pc: entry.type === 'open' ? IDLE : BUSY }),
};

function sendEntry(turn: WriterTurn, entry: Entry, label: string): void {
  const late: readonly string[] = turn.role.late ?? [];
  send(turn, entry, `${nameOf(turn)} ${label}`, late.includes(entry.type), outcome);
}

/** The job is over; the next round, if there is one, begins a new session. */
function finished(turn: Turn, told: number): Partial<Client> {
  const { rounds = 1 } = turn.role as WriterRole;
  const used = turn.client.rounds + 1;
  const isLast = used >= rounds;
  return {
    ...NEW_CLIENT,
    pc: isLast ? END : IDLE,
    told,
    toldSession: turn.client.session,
    rounds: used,
    crashes: turn.client.crashes,
  };
}

function open(turn: WriterTurn): void {
  const entry = decideOpen(turn, turn.state.log.view);
  if (!entry) return;
  if (!turn.world.keeps('P4.again')) decideOnce(turn, entry);
  const bases = entry.bases.map((base) => (base > 0 ? `on backup ${base}` : 'on nothing')).join(' and ');
  sendEntry(turn, entry, `opens ${bases}${listed(', fences', entry.fenced)}${listed(', adopts', entry.adopted)}`);
}

function decideOpen(turn: WriterTurn, view: View): (Entry & { type: 'open' }) | undefined {
  const { world, role, index, client } = turn;
  const fenced: number[] = [];
  for (const number of openSessions(view)) {
    const session = view.sessions[number]!;
    if (!session.volumes.some((volume) => role.volumes.includes(volume))) continue;
    if (session.who !== index && (role.takeover ?? 'none') === 'none') {
      if (world.keeps('P2.oneWriter')) return undefined;
      continue;
    }
    fenced.push(number);
  }
  const bases = role.volumes.map(
    (volume) => view.backups.findLast((backup) => backup.volume === volume && backup.isLive)?.id ?? 0,
  );
  const adopted = toAdopt(turn, view);
  return { type: 'open', who: index, attempt: client.crashes, volumes: role.volumes, bases, fenced, adopted };
}

/** The newest session of the same volumes that was left behind: its own, or anybody's at a takeover. */
function toAdopt(turn: WriterTurn, view: View): number[] {
  const { world, role, index } = turn;
  const number = view.sessions.findLastIndex(
    (session) => session !== undefined && String(session.volumes) === String(role.volumes),
  );
  const session = view.sessions[number];
  if (!session || (session.state !== 'open' && session.state !== 'fenced')) return [];
  if (session.who !== index && role.takeover !== 'adopt') return [];
  const isGone = world.keeps('P6.adoptListed')
    ? view.condemnedSessions[number] === 1
    : view.lastCondemnedSessions.includes(number);
  return isGone ? [] : [number, ...session.adopted.filter((other) => view.condemnedSessions[other] === 0)];
}

function work(turn: WriterTurn): void {
  const { world, state, index, client, role, emit } = turn;
  const view = state.log.view;
  const session = view.sessions[client.session]!;
  if (session.state !== 'open' && world.keeps('P6.fence')) {
    emit(`${nameOf(turn)} sees its session ${session.state}`, withClient(state, index, finished(turn, FAILURE)));
    if (!world.keeps('P6.named')) deleteOwn(turn);
    return;
  }
  upload(turn);
  const commit = decideCommit(turn);
  if (commit) {
    if (!world.keeps('P4.again')) decideOnce(turn, commit);
    sendEntry(turn, commit, `commits session ${client.session}`);
  }
  if (role.mayAbort) {
    const abort: Entry = { type: 'abort', who: index, attempt: client.crashes, session: client.session };
    sendEntry(turn, abort, `aborts session ${client.session}`);
  }
  if (role.mayCancel) emit(`${nameOf(turn)} is cancelled`, withClient(state, index, finished(turn, FAILURE)));
  const isFull = client.acknowledged === PACKS_FOR_ONE_SESSION || usableNode(turn) !== undefined;
  const isHopeless = !commit && isFull && !client.isUnanswered;
  if (isHopeless) emit(`${nameOf(turn)} gives up with a code`, withClient(state, index, finished(turn, FAILURE)));
}

/** With P6.named taken out: what it has stored itself is nobody else's business, it thinks. */
function deleteOwn(turn: WriterTurn): void {
  const { state, index, client, emit } = turn;
  const packs = state.packs.map((p) => (sessionOf(p.id) === client.session ? { ...p, isPresent: false } : p));
  emit(`${nameOf(turn)} deletes its own packs`, withClient({ ...state, packs }, index, finished(turn, FAILURE)));
}

/** With P4.again taken out: what was decided once is sent to whatever number is next. */
function decideOnce(turn: WriterTurn, entry: Entry): void {
  const { world, state, index, emit } = turn;
  const pending = world.registry.entryId(entry) + 1;
  emit(`${nameOf(turn)} decides once and for all`, withClient(state, index, { pc: DECIDED, pending }));
}

function sendDecided(turn: WriterTurn): void {
  const entry = turn.world.registry.entry(turn.client.pending - 1);
  sendEntry(turn, entry, 'sends what it had decided');
}

function upload(turn: WriterTurn): void {
  const { world, state, index, client, role, emit } = turn;
  const id = packId(client.session, client.acknowledged);
  if (client.isUnanswered) {
    const pack = state.packs.find((p) => p.id === id)!;
    const done = withPack(state, { ...pack, isPresent: true });
    const changes = { acknowledged: client.acknowledged + 1, isUnanswered: false };
    emit(`${nameOf(turn)} sends ${packName(id)} again: stored`, withClient(done, index, changes));
    return;
  }
  if (client.acknowledged >= PACKS_FOR_ONE_SESSION) return;
  if (client.acknowledged > 0 && usableNode(turn) !== undefined) return;
  for (const children of layouts(turn, id)) {
    const contents = world.registry.contentsId({ slots: [children, []] });
    const what = `${nameOf(turn)} uploads ${packName(id)} (refers to ${children.map(placeName).join(' ')})`;
    const stored = withPack(state, { id, contents, isPresent: true, isInFlight: false });
    emit(`${what}: stored`, withClient(stored, index, { acknowledged: client.acknowledged + 1 }));
    if (!role.late?.includes('pack')) continue;
    const flying = withPack(state, { id, contents, isPresent: false, isInFlight: true });
    emit(`${what}: no answer`, withClient(flying, index, { isUnanswered: true }));
  }
}

/** The children that the root or run of a new pack may have. Its own block is always one. */
function layouts(turn: WriterTurn, id: number): number[][] {
  const { world, state, client, role } = turn;
  const view = state.log.view;
  const session = view.sessions[client.session]!;
  const own = place(id, 1);
  const shared = session.bases.flatMap((base) => sharedChildren(turn, base));
  const plain = [own, ...shared];
  const found = (role.dedup ?? []).filter((at) => isAcceptable(world, state, view, client.session, at));
  const adopted = state.packs
    .filter((p) => p.isPresent && session.adopted.includes(sessionOf(p.id)) && !isCondemned(view, p.id))
    .map((p) => place(p.id, 1));
  // Blocks that had to be stored again are not looked for elsewhere a second time.
  const extra = client.acknowledged > 0 ? [] : [...found, ...adopted];
  return [plain, ...extra.map((at) => [...plain, at])];
}

function sharedChildren(turn: WriterTurn, base: number): readonly number[] {
  const { world, state } = turn;
  const backup = backupOf(state.log.view, base);
  if (!backup) return [];
  const shape = shapeOf(turn, base);
  if (shape === 'run') return [];
  if (shape === 'tree') return backup.items;
  const below = [...backup.items, ...backup.closure];
  return below.filter((at) => closureOf(world, state, [at]).length === 0);
}

export function shapeOf(turn: WriterTurn, base: number): 'run' | 'tree' | 'fold' {
  const { role, state } = turn;
  const shape = role.shape ?? 'run';
  const count = backupOf(state.log.view, base)?.items.length ?? 0;
  return shape === 'run' && count > (role.maxRuns ?? 8) ? 'fold' : shape;
}

/** The process dies; what it had sent may still land, and its host comes back without a memory of it. */
function crash(turn: WriterTurn): void {
  const { state, index, client, role, emit } = turn;
  if (client.crashes >= (role.crashes ?? 0) || client.pc === IDLE || client.pc === END) return;
  const dead = { ...NEW_CLIENT, rounds: client.rounds, crashes: client.crashes + 1 };
  emit(`${nameOf(turn)} crashes`, withClient(state, index, dead));
}
