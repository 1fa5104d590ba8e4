/**
 * P8: how a prune knows how old something is, with clocks that jump. One thing waits: a condemned pack, or an open session
 * that is silent. A duration is 0, 1 or (enough) 2; a clock is right, or decades behind or ahead.
 */
import { type Emit, jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

const ENOUGH = 2;
const OFFSETS = [-1, 0, 1] as const;
type Offset = (typeof OFFSETS)[number];
type Clock = 'store' | 'host' | 'pruner';

/** When something was dated: by which clocks, and how long ago in truth. */
interface Date {
  readonly ago: number;
  /** The store's, and of the process that wrote the entry. */
  readonly store: Offset;
  readonly writer: Offset;
}

interface AgesState {
  readonly now: Readonly<Record<Clock, Offset>>;
  readonly jumps: number;
  /** When it was written, by a host; and dated anew, by a pruner. */
  readonly written: Date | null;
  readonly redated: Date | null;
  readonly isFreed: boolean;
  /** It had not waited, and no clock that counts had jumped ahead. */
  readonly isEarly: boolean;
}

export interface AgesConfiguration {
  /** Whether the store tells its time. */
  readonly hasClock: boolean;
  /** Which clocks may jump, and how often in all. */
  readonly jumping: readonly Clock[];
  readonly jumps: number;
}

export function agesModel(configuration: AgesConfiguration, without: readonly Rule[] = []): Model<AgesState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const now = { store: 0, host: 0, pruner: 0 } as const;
  return {
    initial: () => ({ now, jumps: 0, written: null, redated: null, isFreed: false, isEarly: false }),
    successors: (state, emit) => {
      if (state.isFreed) return;
      clocks(state, configuration, emit);
      if (state.written) prune(state, state.written, configuration, keeps, emit);
      else emit('it begins to wait', { ...state, written: { ago: 0, store: state.now.store, writer: state.now.host } });
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      { name: 'nothing is given up early', broken: ({ isEarly }) => (isEarly ? 'it had hardly waited' : undefined) },
    ],
    // Also once no clock jumps any more.
    goal: ({ isFreed }) => isFreed,
  };
}

function clocks(state: AgesState, { jumping, jumps }: AgesConfiguration, emit: Emit<AgesState>): void {
  const later = (date: Date | null): Date | null => date && { ...date, ago: Math.min(ENOUGH, date.ago + 1) };
  if (state.written) emit('time passes', { ...state, written: later(state.written), redated: later(state.redated) });
  if (state.jumps >= jumps) return;
  for (const clock of jumping) {
    for (const offset of OFFSETS) {
      if (offset === state.now[clock]) continue;
      const side = ['decades behind', 'right', 'decades ahead'][offset + 1]!;
      const now = { ...state.now, [clock]: offset };
      emit(`the ${clock}'s clock is ${side}`, { ...state, now, jumps: state.jumps + 1 });
    }
  }
}

function prune(
  state: AgesState,
  written: Date,
  { hasClock }: AgesConfiguration,
  keeps: (rule: Rule) => boolean,
  emit: Emit<AgesState>,
): void {
  const { now, redated } = state;
  const date = redated ?? written;
  const isStores = hasClock && keeps('P8.storeClock');
  // Without a clock of the store, only what a pruner has dated is compared with a pruner's clock.
  const isDated = hasClock || redated !== null || !keeps('P8.prunersClock');
  const [nowIs, wasThen] = isStores ? [now.store, date.store] : [now.pruner, date.writer];
  const isAhead = isDated && nowIs < wasThen;
  const age = nowIs > wasThen ? ENOUGH : date.ago;
  if (isDated && !isAhead && age >= ENOUGH) {
    const isExcused = hasClock ? now.store > date.store : redated !== null && now.pruner > redated.writer;
    emit('a prune gives it up', { ...state, isFreed: true, isEarly: written.ago < ENOUGH && !isExcused });
  } else if ((!isDated || isAhead) && keeps('P8.redated')) {
    emit('a prune dates it anew', { ...state, redated: { ago: 0, store: now.store, writer: now.pruner } });
  }
}
