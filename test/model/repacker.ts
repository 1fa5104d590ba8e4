/** P9: copy what is live in one old pack, then a collection that condemns it and names the table. */
import type { Entry, Move } from './log.ts';
import { packId, packName, packOf, place, SLOTS, sessionOf } from './objects.ts';
import { contentsOf, marks } from './references.ts';
import { nameOf, type Outcome, send, settle } from './send.ts';
import { BUSY, type Client, END, IDLE, NEW_CLIENT, UNKNOWN, withClient, withPack } from './state.ts';
import { isCondemned, openSessions } from './view.ts';
import type { RepackerRole, Turn } from './world.ts';

type RepackerTurn = Turn<RepackerRole>;

export function stepRepacker(turn: RepackerTurn): void {
  const { client, index, state, emit, role } = turn;
  if (client.pc === IDLE) open(turn);
  if (client.pc === UNKNOWN) settle(turn, outcome);
  if (client.pc === BUSY) {
    if (client.acknowledged === 0) copy(turn);
    else collect(turn);
  }
  if (client.crashes < (role.crashes ?? 0) && client.pc !== IDLE && client.pc !== END) {
    const dead = { ...NEW_CLIENT, rounds: client.rounds, crashes: client.crashes + 1 };
    emit(`${nameOf(turn)} crashes`, withClient(state, index, dead));
  }
}

const outcome: Outcome = {
  won: (turn, entry, sequence) => (entry.type === 'open' ? { pc: BUSY, session: sequence } : finished(turn)),
  lost: (_turn, entry) => ({ pc: entry.type === 'open' ? IDLE : BUSY }),
};

function finished(turn: Turn): Partial<Client> {
  const { rounds = 1 } = turn.role as RepackerRole;
  const used = turn.client.rounds + 1;
  return { ...NEW_CLIENT, pc: used >= rounds ? END : IDLE, rounds: used, crashes: turn.client.crashes };
}

function open(turn: RepackerTurn): void {
  const { index, role, client } = turn;
  const entry: Entry = {
    type: 'open',
    who: index,
    attempt: client.crashes,
    volumes: [],
    bases: [],
    fenced: [],
    adopted: [],
  };
  send(turn, entry, `${nameOf(turn)} opens`, role.late ?? false, outcome);
}

function copy(turn: RepackerTurn): void {
  const { world, state, index, client, role, emit } = turn;
  const view = state.log.view;
  const live = marks(world, view).places;
  const id = packId(client.session, 0);
  let isFound = false;
  for (const pack of state.packs) {
    const isWorthIt = role.packs.includes(pack.id) || isMovedTo(turn, pack.id);
    if (!isWorthIt || !view.known[pack.id] || !pack.isPresent || isSpared(turn, pack.id)) continue;
    const old = world.registry.contents(pack.contents);
    const slots = old.slots.map((children, slot) => (live.has(place(pack.id, slot)) ? children : null));
    if (slots.every((children) => children === null)) continue;
    const stored = withPack(state, {
      id,
      contents: world.registry.contentsId({ slots }),
      isPresent: true,
      isInFlight: false,
    });
    const label = `${nameOf(turn)} copies what is live in ${packName(pack.id)} to ${packName(id)}`;
    emit(label, withClient(stored, index, { acknowledged: 1, subject: pack.id }));
    isFound = true;
  }
  if (!isFound) emit(`${nameOf(turn)} finds nothing to move`, withClient(state, index, finished(turn)));
}

function isMovedTo(turn: RepackerTurn, pack: number): boolean {
  for (const move of turn.state.log.view.moves.values()) if (packOf(move.to) === pack) return true;
  return false;
}

function isSpared(turn: RepackerTurn, pack: number): boolean {
  const view = turn.state.log.view;
  return openSessions(view).some(
    (number) => number === sessionOf(pack) || view.sessions[number]!.adopted.includes(sessionOf(pack)),
  );
}

function collect(turn: RepackerTurn): void {
  const { world, state, index, client, role, emit } = turn;
  const view = state.log.view;
  const old = client.subject;
  const fresh = packId(client.session, 0);
  const isOurs =
    !world.keeps('P9.session') || (view.sessions[client.session]!.state === 'open' && !isCondemned(view, fresh));
  const moves = isOurs && view.known[old] && !isSpared(turn, old) ? tables(turn, old, fresh) : undefined;
  if (!moves) {
    emit(`${nameOf(turn)} gives up`, withClient(state, index, finished(turn)));
    return;
  }
  const entry: Entry = {
    type: 'collect',
    who: index,
    attempt: client.crashes,
    session: client.session,
    packs: [old],
    sessions: [],
    fenced: [],
    moves: world.keeps('P9.table') ? moves : [],
    newPacks: [fresh],
  };
  send(
    turn,
    entry,
    `${nameOf(turn)} condemns ${packName(old)}, moved to ${packName(fresh)}`,
    role.late ?? false,
    outcome,
  );
}

/** Marked anew at this point of the log: everything live must have been copied, or it starts over. */
function tables(turn: RepackerTurn, old: number, fresh: number): Move[] | undefined {
  const { world, state } = turn;
  const view = state.log.view;
  const live = marks(world, view).places;
  const copied = contentsOf(world, state, fresh)!;
  const moves: Move[] = [];
  for (let slot = 0; slot < SLOTS; slot++) {
    const from = place(old, slot);
    if (!live.has(from)) continue;
    if (!copied.slots[slot]) return undefined;
    const to = place(fresh, slot);
    moves.push({ from, to, table: fresh });
    if (!world.keeps('P9.straight')) continue;
    for (const earlier of view.moves.values()) {
      if (earlier.to === from) moves.push({ from: earlier.from, to, table: fresh });
    }
  }
  return moves.length > 0 ? moves : undefined;
}
