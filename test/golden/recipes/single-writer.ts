import { writeFew } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';

/** Less, in a repository of one writer: the keys of the log and of its packs are what differs. */
export const singleWriter: Recipe = {
  name: 'v1-single-writer',
  mode: 'single-writer',
  encryption: 'none',
  secrets: [],
  has: [
    ...['open', 'commit', 'abort', 'forget', 'collect'].map((type) => `entry of type ${type}`),
    ...['tree of level 0', 'run', 'checkpoint', 'checkpoint with backups'],
  ],
  write: writeFew,
};
