import { optional, seqOf, textOf, timeOf, tupleOf } from './decode-values.ts';
import { sessionsOf, volumesOf, volumesPlain } from './fact-codec.ts';
import type { EntryTime, Session } from './log-state.ts';

/** Sessions as a checkpoint has them: `docs/FORMAT.md`, section 9. */

export function openPlain(session: Session): unknown {
  const { dated } = session;
  return dated === undefined ? sessionPlain(session) : [...sessionPlain(session), [dated.seq, dated.at]];
}

export function openOf(value: unknown): Session {
  if (!Array.isArray(value) || value.length !== 6) return sessionOf(value);
  return { ...sessionOf(value.slice(0, 5)), dated: timeOfEntry(value[5]) };
}

/** Where it was dated anew it counts from that entry, whatever fenced it. */
export function fencedPlain(session: Session): unknown {
  const { dated, fencedBy } = session;
  if (fencedBy === undefined) return sessionPlain(session);
  const { seq, at, owner } = fencedBy;
  const by = [seq, at, owner ?? null];
  return [...sessionPlain(session), by, ...(dated === undefined ? [] : [[dated.seq, dated.at]])];
}

export function fencedOf(value: unknown): Session {
  if (!Array.isArray(value) || value.length < 6 || value.length > 7) return sessionOf(value);
  const [seq, at, owner] = tupleOf(value[5], 3, 'a fence');
  const fencedBy = { ...timeOfEntry([seq, at]), owner: optional(owner, (name) => textOf(name, 'an owner')) };
  const session = { ...sessionOf(value.slice(0, 5)), fencedBy };
  return value.length === 6 ? session : { ...session, dated: timeOfEntry(value[6]) };
}

function timeOfEntry(value: unknown): EntryTime {
  const [seq, at] = tupleOf(value, 2, 'the time of an entry');
  return { seq: seqOf(seq, 'an entry'), at: timeOf(at, "an entry's time") };
}

function sessionPlain({ seq, at, owner, volumes, adopted }: Session): unknown[] {
  return [seq, at, owner, volumesPlain(volumes), adopted];
}

function sessionOf(value: unknown): Session {
  const [seq, at, owner, volumes, adopted] = tupleOf(value, 5, 'a session');
  return {
    seq: seqOf(seq, "a session's number"),
    at: timeOf(at, "a session's time"),
    owner: textOf(owner, 'an owner'),
    volumes: volumesOf(volumes),
    adopted: sessionsOf(adopted),
  };
}
