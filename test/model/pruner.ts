/** L1: a pruner writes checkpoints, reads them back, and says in an entry what may be deleted. */
import { fold, numberOf } from './chains.ts';
import { checkpointsOf, digestIn, isUsable, mounted, withCheckpoint } from './ending-state.ts';
import type { HostTurn } from './host-turn.ts';

export function prune(turn: HostTurn): void {
  const { self, role } = turn;
  const { at, confirmed, jobs, built, checkpoints } = self;
  const { entries = 0, forgets = false } = role;
  const state = fold(at);
  const others = state.words.filter((word) => word.startsWith(turn.letter) && word.charAt(2) !== 'k').length;
  if (others < entries) turn.plan('prepares', 'n');
  if (forgets && state.backups.length > 0) turn.plan('prepares', 'f');
  if (at === confirmed && checkpoints < (role.checkpoints ?? 0)) writeCheckpoint(turn);
  if (jobs < (role.jobs ?? 1) && built < 9) collect(turn);
}

function writeCheckpoint(turn: HostTurn): void {
  const { state, self, world, letter } = turn;
  const { shared } = state;
  const number = numberOf(self.at);
  const checkpoint = `${letter}${self.checkpoints + 1}:${self.at}`;
  const counted = { checkpoints: self.checkpoints + 1 };
  const isCreateOnly = world.keeps('L1.createOnly');
  const { store, other } = withCheckpoint(state, checkpoint, isCreateOnly);
  turn.become(`writes checkpoint ${number}`, counted, { store, other });
  if (world.configuration.areCheckpointsLate) {
    const net = [...shared.net, checkpoint].sort();
    turn.become(`writes checkpoint ${number}: no answer`, counted, { shared: { ...shared, net } });
  }
  if (shared.garbage < (world.configuration.garbage ?? 0) && !mounted(state).checkpoints[number]) {
    const key = shared.isGone ? 'other' : 'store';
    const list = [...state[key].checkpoints];
    while (list.length < number) list.push('');
    list[number] = '!';
    const damaged = { [key]: { ...state[key], checkpoints: list }, shared: { ...shared, garbage: shared.garbage + 1 } };
    turn.become(`writes checkpoint ${number}, and it is garbage`, counted, damaged);
  }
}

function collect(turn: HostTurn): void {
  const { self, role, world } = turn;
  const { at } = self;
  const state = fold(at);
  const floor = floorOf(turn);
  const isFree = !state.refersToX && !state.isXCondemned && !state.isXDropped;
  const condemns = role.condemnsX && isFree ? 'X' : state.isXCondemned && !turn.state.shared.hasX ? 'D' : '';
  const fences = role.fences && state.sessions.some(({ isOpen }) => isOpen) ? 'F' : '';
  if (floor === 0 && condemns === '' && fences === '') return;
  const digest = floor === 0 ? '' : digestIn(mounted(turn.state).checkpoints[floor]!);
  turn.plan(
    world.keeps('L1.readBack') ? 'has read back, prepares' : 'prepares',
    `k${floor}.${digest}.${condemns}${fences}`,
    {
      jobs: self.jobs + 1,
    },
  );
}

/** The older one of two checkpoints that it has read back, above the present floor; 0 if there are not two. */
function floorOf({ state, self, role, world }: HostTurn): number {
  if (role.raisesFloor === false) return 0;
  const { checkpoints } = mounted(state);
  const numbers = checkpointsOf(mounted(state), numberOf(self.at));
  const isGood = (number: number) => !world.keeps('L1.readBack') || isUsable(checkpoints[number], self.at, number);
  const good = numbers.filter(isGood);
  const floor = good[world.keeps('L1.two') ? 1 : 0] ?? 0;
  return floor > fold(self.at).floor ? floor : 0;
}
