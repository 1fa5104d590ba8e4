import { runInSteps, StepCounter, yieldToEventLoop } from '../../common/yield-to-event-loop.ts';
import type { LogState } from '../format/log-state.ts';
import { packKey } from '../format/object-keys.ts';
import { KnownNames, type TableRows } from '../log/entries/known-names.ts';
import type { ListedPack } from './pack-listing.ts';

/** The uploads of one session that no backup refers to. @public */
export interface UnreferencedSession {
  /** The number of the session. */
  readonly session: number;
  /** The host and process that opened it, while the log still knows. */
  readonly owner: string | undefined;
  /**
   * `open`: its backup is under way, or its process died. `fenced`: it was given up, but may still be adopted for a while.
   * `ended`: its uploads can't be used any more, and the next prune condemns them.
   */
  readonly state: 'open' | 'fenced' | 'ended';
  readonly packs: number;
  readonly bytes: number;
}

/** Uploads that no backup refers to and that are not condemned yet. @public */
export interface Unreferenced {
  readonly packs: number;
  readonly bytes: number;
  /** The sessions, the one with the most bytes first. */
  readonly sessions: readonly UnreferencedSession[];
}

/** Finds the listed packs that no log entry names. Packs of sessions with a table that can't be read are left out. */
export async function unreferenced(
  state: LogState,
  listed: readonly ListedPack[],
  tables: TableRows,
): Promise<Unreferenced> {
  const names = await runInSteps(KnownNames.of(state, tables));
  const steps = new StepCounter();
  const bySession = new Map<number, { packs: number; bytes: number }>();
  for (const pack of listed) {
    if (steps.isDue()) await yieldToEventLoop();
    const { session, size } = pack;
    const isCondemned = state.condemnedSessions.has(session) || state.condemned.has(packKey(pack));
    if (isCondemned || names.has(pack) || !names.isReadable(session)) continue;
    const sum = bySession.get(session) ?? { packs: 0, bytes: 0 };
    bySession.set(session, { packs: sum.packs + 1, bytes: sum.bytes + size });
  }
  const sessions = [...bySession].map(([session, sum]): UnreferencedSession => {
    const open = state.sessions.get(session);
    const fenced = state.fenced.get(session);
    const how = open !== undefined ? 'open' : fenced !== undefined ? 'fenced' : 'ended';
    return { session, owner: (open ?? fenced)?.owner, state: how, ...sum };
  });
  return {
    packs: sessions.reduce((sum, { packs }) => sum + packs, 0),
    bytes: sessions.reduce((sum, { bytes }) => sum + bytes, 0),
    sessions: sessions.sort((a, b) => b.bytes - a.bytes || a.session - b.session),
  };
}
