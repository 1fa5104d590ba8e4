/**
 * L7: what a host recognises below the floor. The state keeps the hashes of entries k·2^j, the newest eight for each j; a host
 * keeps those of the state that it knew, and holds the newest common one against the log. Everything up to that entry is exact.
 */
import { jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

const OF_EACH = 8;
/** How much of what was written since may lie between the newest common anchor and what the host knew. */
const SHARE = 0.29;

interface AnchorsState {
  /** The entry that the host knew, and the newest one. */
  readonly known: number;
  readonly newest: number;
}

export function anchorsModel(entries: number, without: readonly Rule[] = []): Model<AnchorsState> {
  const ofEach = without.includes('L7.anchors') ? 0 : without.includes('L7.eight') ? OF_EACH / 2 : OF_EACH;
  const anchors = Array.from({ length: entries + 1 }, (_, newest) => anchorsOf(newest, ofEach));
  return {
    initial: () => ({ known: 1, newest: 1 }),
    successors: ({ known, newest }, emit) => {
      if (newest < entries) emit(`entry ${newest + 1} is written`, { known, newest: newest + 1 });
      if (known < newest) emit(`the host sees entry ${newest}`, { known: newest, newest });
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      {
        name: 'L7: another history is recognised, up to a share of what was written since',
        broken: ({ known, newest }) => {
          if (known === newest) return undefined; // Its own hash is exact.
          const common = anchors[known]!.find((number) => anchors[newest]!.includes(number)) ?? 0;
          const missed = known - common;
          if (missed <= SHARE * (newest - known)) return undefined;
          return `of ${newest} entries a host knew ${known}, and nothing shows whether ${common + 1} to ${known} are the same`;
        },
      },
    ],
  };
}

/** The numbers of the entries whose hashes a state has, newest first. Its own is one of them. */
export function anchorsOf(newest: number, ofEach: number): number[] {
  const numbers = new Set<number>();
  for (let step = 1; step <= newest; step *= 2) {
    const top = newest - (newest % step);
    for (let k = 0; k < ofEach && top - k * step > 0; k++) numbers.add(top - k * step);
  }
  return [...numbers].sort((a, b) => b - a);
}
