import { logCorrupt, logValue } from './decode-values.ts';
import { sessionsOf, volumesOf, volumesPlain } from './fact-codec.ts';
import type { EntryTime, Session } from './log-state.ts';

/** Sessions as MessagePack arrays, in checkpoints: `docs/FORMAT.md`, section 9. */

function sessionPlain({ seq, hash, at, owner, volumes, adopted }: Session): unknown[] {
  return [seq, hash, at, owner, volumesPlain(volumes), adopted];
}

/** A session that is open, as an element of `sessions`. */
export function openPlain(session: Session): unknown {
  const { dated } = session;
  return dated === undefined ? sessionPlain(session) : [...sessionPlain(session), [dated.seq, dated.at]];
}

/** A fenced session, as an element of `fenced`. Its age, if it has a newer date, counts from that entry, whatever fenced it. */
export function fencedPlain(session: Session): unknown {
  const { dated, fencedBy } = session;
  if (fencedBy === undefined) throw new TypeError('an entry fenced each fenced session');
  const { seq, at, owner } = fencedBy;
  const by = [seq, at, owner ?? null];
  return [...sessionPlain(session), by, ...(dated === undefined ? [] : [[dated.seq, dated.at]])];
}

/** @throws `LOG_CORRUPT` */
export function openOf(value: unknown): Session {
  if (!Array.isArray(value) || value.length !== 7) return sessionOf(value);
  return { ...sessionOf(value.slice(0, 6)), dated: timeOfEntry(value[6]) };
}

/** @throws `LOG_CORRUPT` */
export function fencedOf(value: unknown): Session {
  if (!Array.isArray(value) || value.length < 7 || value.length > 8) throw logCorrupt('a fenced session is not valid');
  const [seq, at, owner] = logValue.tuple(value[6], 3, 'a fence');
  const fencedBy = {
    ...timeOfEntry([seq, at]),
    owner: logValue.optional(owner, (name) => logValue.text(name, 'an owner')),
  };
  const session = { ...sessionOf(value.slice(0, 6)), fencedBy };
  return value.length === 7 ? session : { ...session, dated: timeOfEntry(value[7]) };
}

function timeOfEntry(value: unknown): EntryTime {
  const [seq, at] = logValue.tuple(value, 2, 'the time of an entry');
  return { seq: logValue.seq(seq, 'an entry'), at: logValue.time(at, "an entry's time") };
}

function sessionOf(value: unknown): Session {
  const [seq, hash, at, owner, volumes, adopted] = logValue.tuple(value, 6, 'a session');
  return {
    seq: logValue.seq(seq, "a session's number"),
    hash: logValue.bytes(hash, "the hash of a session's `open` entry", 32),
    at: logValue.time(at, "a session's time"),
    owner: logValue.text(owner, 'an owner'),
    volumes: volumesOf(volumes),
    adopted: sessionsOf(adopted),
  };
}
