/** P7: read, list, mark, condemn at N+1; start over when another took the number. */
import type { Entry } from './log.ts';
import { PACKS_A_SESSION, packId, sessionOf } from './objects.ts';
import { marks, packNames } from './references.ts';
import { listed, nameOf, type Outcome, send, settle } from './send.ts';
import {
  type Client,
  DECIDED,
  END,
  IDLE,
  isPresent,
  NEW_CLIENT,
  type State,
  UNKNOWN,
  withClient,
  withPack,
} from './state.ts';
import { isCondemned, openSessions, type View } from './view.ts';
import type { CollectorRole, Turn } from './world.ts';

type CollectorTurn = Turn<CollectorRole>;
type Collect = Entry & { type: 'collect' };

export function stepCollector(turn: CollectorTurn): void {
  const { client, state, index, emit } = turn;
  if (client.pc === IDLE) plan(turn);
  if (client.pc === UNKNOWN) settle(turn, outcome);
  if (client.pc !== DECIDED) return;
  const isStale = state.log.sequence + 1 !== client.slot;
  if (isStale && turn.world.keeps('P7.again')) {
    emit(
      `${nameOf(turn)} lost its number and starts over`,
      withClient(state, index, { pc: IDLE, pending: 0, slot: 0 }),
    );
    return;
  }
  const entry = turn.world.registry.entry(client.pending - 1) as Collect;
  send(
    turn,
    entry,
    `${nameOf(turn)} condemns ${packNames(entry.packs)}${listed(', what is unknown of session', entry.sessions)}${listed(', fences', entry.fenced)}`,
    turn.role.late ?? false,
    outcome,
  );
  if (!turn.world.keeps('P7.named')) deleteUnnamed(turn, entry);
}

const outcome: Outcome = { won: (turn) => finished(turn), lost: () => ({ pc: IDLE }) };

function finished(turn: Turn): Partial<Client> {
  const { rounds = 1 } = turn.role as CollectorRole;
  const used = turn.client.rounds + 1;
  return { ...NEW_CLIENT, pc: used >= rounds ? END : IDLE, rounds: used };
}

function plan(turn: CollectorTurn): void {
  const { world, state, role } = turn;
  const view = state.log.view;
  const fenced = role.fences ? openSessions(view) : [];
  decided(turn, condemnable(turn, view, []), 'reads, lists and marks');
  if (fenced.length > 0) decided(turn, condemnable(turn, view, fenced), 'reads, lists, marks and wants to fence');
  if (world.keeps('P7.whole')) return;
  for (const backup of view.backups) {
    if (backup.isLive)
      decided(turn, condemnable(turn, view, [], backup.id), `can't read backup ${backup.id} and goes on`);
  }
}

function decided(turn: CollectorTurn, entry: Collect, label: string): void {
  if (entry.packs.length + entry.sessions.length + entry.fenced.length === 0) return;
  const { world, state, index, emit } = turn;
  const changes = { pc: DECIDED, pending: world.registry.entryId(entry) + 1, slot: state.log.sequence + 1 };
  emit(`${nameOf(turn)} ${label}`, withClient(state, index, changes));
}

function condemnable(turn: CollectorTurn, view: View, fenced: readonly number[], unread?: number): Collect {
  const { world, state, index } = turn;
  const { keeps } = world;
  const marked = marks(world, view, unread).packs;
  const spared = new Set<number>();
  for (const number of keeps('P1.spared') ? openSessions(view) : []) {
    spared.add(number);
    if (keeps('P7.adopted')) for (const other of view.sessions[number]!.adopted) spared.add(other);
  }
  const packs: number[] = [];
  for (let pack = 0; pack < view.known.length; pack++) {
    if (view.known[pack] && !marked.has(pack) && !spared.has(sessionOf(pack))) packs.push(pack);
  }
  const sessions = new Set<number>();
  for (const pack of state.packs) {
    const session = sessionOf(pack.id);
    if (pack.isPresent && session > 0 && !view.known[pack.id] && !isCondemned(view, pack.id) && !spared.has(session)) {
      sessions.add(session);
    }
  }
  const rest = { session: 0, moves: [], newPacks: [] };
  return { type: 'collect', who: index, attempt: turn.client.rounds, packs, sessions: [...sessions], fenced, ...rest };
}

/** With P7.named taken out: the orphans that were listed are deleted there and then. */
function deleteUnnamed(turn: CollectorTurn, entry: Collect): void {
  let state: State = turn.state;
  for (const session of entry.sessions) {
    for (let k = 0; k < PACKS_A_SESSION; k++) {
      const pack = state.packs.find((p) => p.id === packId(session, k));
      if (pack && isPresent(state, pack.id) && !turn.state.log.view.known[pack.id]) {
        state = withPack(state, { ...pack, isPresent: false });
      }
    }
  }
  turn.emit(`${nameOf(turn)} deletes the orphans it had listed`, withClient(state, turn.index, finished(turn)));
}
