/** P4: what a commit holds, and whether it may be sent at this point of the log. */
import type { BackupSpec, Entry } from './log.ts';
import { packId, packOf, place, sessionOf } from './objects.ts';
import { childrenOf, closureOf, isAcceptable } from './references.ts';
import { backupOf, ownSessions } from './view.ts';
import { shapeOf, type WriterTurn } from './writer.ts';

type Commit = Entry & { type: 'commit' };

export function decideCommit(turn: WriterTurn): Commit | undefined {
  const { world, state, client, index } = turn;
  const view = state.log.view;
  const session = view.sessions[client.session]!;
  const node = usableNode(turn);
  if (node === undefined) return undefined;
  const isHeadMoved = session.volumes.some((volume, i) => view.heads[volume] !== session.parents[i]);
  if (isHeadMoved && world.keeps('P2.oneWriter')) return undefined;
  const backups = session.volumes.map((volume, i): BackupSpec => {
    const base = session.bases[i]!;
    const items = shapeOf(turn, base) === 'run' ? [node, ...(backupOf(view, base)?.items ?? [])] : [node];
    return { volume, parent: session.parents[i]!, base, items, closure: closureOf(world, state, items) };
  });
  const isShareable = backups.every((backup) =>
    backup.items.every((at) => isAcceptable(world, state, view, client.session, at)),
  );
  if (!isShareable) return undefined;
  const own = ownSessions(view, client.session);
  const places = backups.flatMap((backup) => [...backup.items, ...backup.closure]);
  const packs = [...new Set(places.map(packOf))].filter((pack) => own.includes(sessionOf(pack)));
  const entry: Commit = {
    type: 'commit',
    who: index,
    attempt: client.crashes,
    session: client.session,
    backups,
    packs,
    partial: false,
  };
  if (world.keeps('P12.together') || backups.length === 1) return entry;
  return { ...entry, backups: [backups[client.at]!], partial: client.at + 1 < backups.length };
}

/** The root or run to commit: its own newest, or an adopted one. Undefined when it must store again. */
export function usableNode(turn: WriterTurn): number | undefined {
  const { world, state, client } = turn;
  const view = state.log.view;
  const session = view.sessions[client.session]!;
  const uploaded = client.acknowledged + (client.isUnanswered && !world.keeps('P4.acknowledged') ? 1 : 0);
  if (uploaded > 0) {
    const node = place(packId(client.session, uploaded - 1), 0);
    return refersWell(turn, node) ? node : undefined;
  }
  for (const pack of state.packs) {
    const from = sessionOf(pack.id);
    // Who resumes remembers what was acknowledged; it does not look again.
    const wasStored = pack.isPresent || !pack.isInFlight;
    if (!wasStored || !session.adopted.includes(from)) continue;
    const isSameBase = String(view.sessions[from]!.bases) === String(session.bases);
    if (!isSameBase && world.keeps('P6.adoptSameBase')) continue;
    const node = place(pack.id, 0);
    if (isAcceptable(world, state, view, client.session, node) && refersWell(turn, node)) return node;
  }
  return undefined;
}

function refersWell(turn: WriterTurn, node: number): boolean {
  const { world, state, client } = turn;
  if (!world.keeps('P6.adoptDeep')) return true;
  return childrenOf(world, state, node).every((at) => isAcceptable(world, state, state.log.view, client.session, at));
}
