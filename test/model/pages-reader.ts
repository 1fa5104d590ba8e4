/** L11: a reader opens the newest state from a checkpoint, and reads its pages later. */
import { followed, newest } from './pages-state.ts';
import { become, isThere, openable, type PagesTurn } from './pages-store.ts';

export function readOn(turn: PagesTurn): void {
  const { pc, jobs } = turn.state.actors[turn.index]!;
  if (pc === 'idle' && jobs === 0) open(turn);
  if (pc === 'open') readPage(turn);
}

function open(turn: PagesTurn): void {
  const { state, index, world } = turn;
  const { missed, doubts } = state.actors[index]!;
  const isPassed = (page: string) => world.keeps('L11.lower') && missed.includes(page);
  const from = openable(state).find(({ pages }) => !pages.some(isPassed));
  if (from) {
    const own = followed(from, state.log, world);
    become(turn, `opens entry ${own.number} from checkpoint ${from.number} with pages ${from.pages.join(' ')}`, {
      pc: 'open',
      own,
      unread: own.pages,
    });
  } else if (state.log.floors.length === 0) become(turn, `folds all entries to ${newest(state.log)}`, { pc: 'end' });
  else if (doubts === 0) become(turn, 'finds no checkpoint, and looks again', { doubts: 1, missed: [] });
  else become(turn, 'finds no checkpoint', { pc: 'end', mistake: 'damage is reported: there is no checkpoint' });
}

function readPage(turn: PagesTurn): void {
  const { state, index, world } = turn;
  const { unread, missed, jobs } = state.actors[index]!;
  const [page, ...rest] = unread;
  if (page === undefined) become(turn, 'has read all pages', { pc: 'idle', jobs: jobs + 1, missed: [], doubts: 0 });
  else if (isThere(state.store, page)) become(turn, `reads page ${page}`, { unread: rest });
  else if (missed.includes(page) || !world.keeps('L11.again'))
    become(turn, `misses page ${page}`, { pc: 'end', mistake: `page ${page} is reported as damaged` });
  else
    become(turn, `misses page ${page}, and looks again`, { pc: 'idle', unread: [], missed: [...missed, page].sort() });
}
