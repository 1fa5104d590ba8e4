import type { Recipe } from '../support/recipe.ts';
import { adopted } from './adopted.ts';
import { encrypted, plain } from './everything.ts';
import { largeFanOut, smallFanOut } from './fan-outs.ts';
import { features } from './features.ts';
import { floor } from './floor.ts';
import { fork } from './fork.ts';
import { heldAndPinned } from './held-and-pinned.ts';
import { encryptedWithoutFormat, plainWithoutFormat, strayAtTheNextNumber } from './lost-objects.ts';
import { pages, pagesOfSingleWriter } from './pages.ts';
import { pruned, prunedSingleWriter } from './pruned.ts';
import { singleWriter } from './single-writer.ts';
import { strays } from './strays.ts';
import { tablesAndPages } from './tables-and-pages.ts';

/** Each golden repository. A new one is a file beside this one, and a name here: then `node test/golden/make.ts NAME`. */
export const RECIPES: readonly Recipe[] = [
  plain,
  encrypted,
  singleWriter,
  fork,
  smallFanOut,
  largeFanOut,
  heldAndPinned,
  adopted,
  features,
  pruned,
  prunedSingleWriter,
  pages,
  pagesOfSingleWriter,
  tablesAndPages,
  floor,
  strays,
  strayAtTheNextNumber,
  plainWithoutFormat,
  encryptedWithoutFormat,
];
