/** L20: how a tool copies a repository while it is written to. */
import { fold, kindOf, numberOf } from './chains.ts';
import type { HostTurn } from './host-turn.ts';
import { LOOK } from './looking.ts';

/** The packs that are there: those of all commits so far, and X if it was not deleted. */
export function copyPacks(turn: HostTurn): void {
  const { shared } = turn.state;
  const packs = { packsOf: numberOf(shared.truth), hasX: shared.hasX };
  if (turn.world.keeps('L20.packsLater')) turn.become('copies packs', { ...packs, pc: 'check' });
  else turn.become('copies packs first, looks', { ...packs, ...LOOK });
}

/** After a new `collect` it starts again. */
export function lookAfterCopying(turn: HostTurn): void {
  const { at, packsOf, hasX } = turn.self;
  const copied = fold(at);
  const isCollected = fold(turn.state.shared.truth)
    .words.slice(copied.count)
    .some((word) => kindOf(word) === 'k');
  if (isCollected && turn.world.keeps('L20.look')) {
    turn.become('looks: a new collection, starts again', { ...LOOK });
    return;
  }
  const isWithout = copied.words.some((word, index) => kindOf(word) === 'c' && index >= packsOf);
  const isXMissing = copied.refersToX && !hasX;
  const mistake = isWithout || isXMissing ? 'the newest state of the copy lacks packs' : '';
  turn.become('has copied', { pc: 'done', mistake });
}
