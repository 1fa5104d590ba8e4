/**
 * L12 and L13: the next backup of a volume adopts what dead ones have uploaded, by listing their folders. One volume, or two; entries
 * are appended in order. A session is listed while it is open, or ended and not condemned. A PUT
 * of a pack may land at any time, also after its name was deleted.
 */
import {
  type Adopter,
  AdopterTurn,
  type AdoptingConfiguration,
  type AdoptingLog,
  type AdoptingState,
  isCondemned,
  type Keeps,
  NOBODY,
  type Stored,
  sessionOf,
  sorted,
} from './adopter-turn.ts';
import type { Emit, Model } from './explore.ts';
import { Interned } from './interned.ts';
import type { Rule } from './rules.ts';

export function adoptingModel(
  configuration: AdoptingConfiguration,
  without: readonly Rule[] = [],
): Model<AdoptingState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const codec = new Interned<AdoptingState>(
    ({ log, stored, adopters }) => [log, stored, ...adopters],
    ([log, stored, ...adopters]) => ({
      ...{ log: log as AdoptingLog, stored: stored as Stored, adopters: adopters as Adopter[] },
    }),
  );
  return {
    initial: () => ({
      log: { number: 0, sessions: [], condemned: [], backups: [], collections: 0 },
      stored: { there: [], sent: [], doomed: [] },
      adopters: configuration.adopters.map(() => NOBODY),
    }),
    successors: (state, emit) => {
      storage(state, emit);
      if (state.log.collections < configuration.collections) collections(state, keeps, emit);
      for (const index of configuration.adopters.keys())
        new AdopterTurn(state, index, configuration, keeps, emit).step();
    },
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    mayRest: ({ adopters }) => adopters.every(({ pc }) => pc === 'start' || pc === 'end'),
    invariants: [
      { name: 'I1: the packs of every backup are there and not condemned', broken: lost },
      { name: 'I3: one open session of the volume', broken: doubled },
    ],
  };
}

function storage(state: AdoptingState, emit: Emit<AdoptingState>): void {
  const { stored } = state;
  for (const pack of stored.sent) {
    const sent = stored.sent.filter((each) => each !== pack);
    emit(`the late pack ${pack} lands`, {
      ...state,
      stored: { ...stored, sent, there: sorted([...stored.there, pack]) },
    });
  }
  for (const pack of stored.there) {
    if (!stored.doomed.includes(pack) && !isCondemned(state.log, pack)) continue;
    emit(`pack ${pack} is deleted`, { ...state, stored: { ...stored, there: stored.there.filter((p) => p !== pack) } });
  }
}

/** A collection fences, or condemns one session or all orphans; what is gone by then is dropped from the list. */
function collections(state: AdoptingState, keeps: Keeps, emit: Emit<AdoptingState>): void {
  const { log, stored } = state;
  const isThere = (name: string) => stored.there.some((pack) => pack === name || name === `${sessionOf(pack)}/`);
  const next = {
    ...log,
    number: log.number + 1,
    collections: log.collections + 1,
    condemned: log.condemned.filter(isThere),
  };
  const doomed = sorted([...stored.doomed, ...log.condemned.filter((name) => !name.endsWith('/'))]);
  const append = (label: string, changes: Partial<AdoptingLog>) =>
    emit(`entry ${next.number} ${label}`, { ...state, log: { ...next, ...changes }, stored: { ...stored, doomed } });
  const adopted = log.sessions.flatMap((session) => (session.is === 'open' ? session.adopted : []));
  for (const session of log.sessions) {
    if (session.is === 'open') {
      const sessions = log.sessions.map((each) => (each === session ? { ...each, is: 'fenced' as const } : each));
      append(`fences session ${session.number}`, { sessions });
    } else if (!adopted.includes(session.number) || !keeps('L12.spared')) {
      const sessions = log.sessions.filter((each) => each !== session);
      const condemned = sorted([...next.condemned, `${session.number}/`]);
      append(`condemns session ${session.number}`, { sessions, condemned });
    }
  }
  // An adopted session is spared, listed or not.
  const spared = [...log.sessions.map(({ number }) => number), ...(keeps('L12.spared') ? adopted : [])];
  const known = new Set(log.backups.flat());
  const orphans = stored.there.filter(
    (pack) => !spared.includes(sessionOf(pack)) && !known.has(pack) && !isCondemned(log, pack),
  );
  if (orphans.length > 0) {
    append(`condemns ${orphans.join(' ')}`, { condemned: sorted([...next.condemned, ...orphans]) });
  } else if (next.condemned.length < log.condemned.length) append('drops what is gone', {});
}

function lost({ log, stored }: AdoptingState): string | undefined {
  for (const pack of log.backups.flat()) {
    if (isCondemned(log, pack)) return `a backup has pack ${pack}, which is condemned`;
    if (!stored.there.includes(pack)) return `a backup has pack ${pack}, which is not there`;
  }
  return undefined;
}

function doubled({ log }: AdoptingState): string | undefined {
  const open = log.sessions.filter(({ is }) => is === 'open');
  const volumes = open.map((session) => session.volumes).join('');
  if (new Set(volumes).size === volumes.length) return undefined;
  return `sessions ${open.map(({ number }) => number).join(' and ')} are open`;
}
