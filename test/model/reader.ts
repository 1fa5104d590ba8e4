/** P8: opens a live backup at one point of the log and reads it piece by piece while the world goes on. */
import { packOf, placeName } from './objects.ts';
import { nameOf } from './send.ts';
import {
  BUSY,
  type Client,
  END,
  FORGOTTEN,
  IDLE,
  isPresent,
  NEW_CLIENT,
  PACK_MISSING,
  type State,
  SUCCESS,
  withClient,
} from './state.ts';
import { backupOf, placesOf, resolve, type View } from './view.ts';
import type { ReaderRole, Turn } from './world.ts';

type ReaderTurn = Turn<ReaderRole>;

export function stepReader(turn: ReaderTurn): void {
  const { state, index, client, emit } = turn;
  if (client.pc === IDLE) {
    for (const backup of state.log.view.backups) {
      if (!backup.isLive) continue;
      const changes = { pc: BUSY, log: state.log.id, subject: backup.id, at: 0, told: 0 };
      emit(`${nameOf(turn)} opens backup ${backup.id}`, withClient(state, index, changes));
    }
  }
  if (client.pc === BUSY) read(turn);
}

function read(turn: ReaderTurn): void {
  const { world, state, index, client, emit } = turn;
  const view = world.registry.node(client.log).view;
  const places = placesOf(backupOf(view, client.subject)!);
  const at = places[client.at]!;
  if (isReadable(state, view, at)) {
    const isLast = client.at + 1 === places.length;
    const changes = isLast ? finished(turn, SUCCESS) : { at: client.at + 1 };
    emit(`${nameOf(turn)} reads ${placeName(at)}`, withClient(state, index, changes));
    return;
  }
  const now = state.log.view;
  const what = `${nameOf(turn)} misses ${placeName(at)}`;
  if (!world.keeps('P8.replay')) {
    emit(`${what}: PACK_MISSING`, withClient(state, index, finished(turn, PACK_MISSING)));
  } else if (!backupOf(now, client.subject)!.isLive) {
    emit(`${what}, replays: BACKUP_FORGOTTEN`, withClient(state, index, finished(turn, FORGOTTEN)));
  } else if (String(Object.values(resolve(now, at) ?? {})) === String(Object.values(resolve(view, at) ?? {}))) {
    emit(`${what}, replays, still there: PACK_MISSING`, withClient(state, index, finished(turn, PACK_MISSING)));
  } else {
    emit(`${what}, replays and follows`, withClient(state, index, { log: state.log.id }));
  }
}

function isReadable(state: State, view: View, at: number): boolean {
  const found = resolve(view, at);
  if (!found) return false;
  return isPresent(state, packOf(found.at)) && (found.table < 0 || isPresent(state, found.table));
}

function finished(turn: Turn, told: number): Partial<Client> {
  const { rounds = 1 } = turn.role as ReaderRole;
  const used = turn.client.rounds + 1;
  return { ...NEW_CLIENT, pc: used >= rounds ? END : IDLE, told, rounds: used };
}
