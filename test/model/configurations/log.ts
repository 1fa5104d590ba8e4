/** The log by itself: checkpoints, vanished entries, single-writer mode. */
import type { Model } from '../explore.ts';
import { checkpoints, type Named } from '../named.ts';
import { singleWriterModel } from '../single-writer.ts';

export const LOG: readonly Named[] = [
  checkpoints(
    'checkpoints',
    'Two hosts open by checkpoints that are lost, late, stale or of an entry that never won.',
    {
      takeOut: [['P11.tail'], ['P11.won'], ['P11.won', 'P11.ahead']],
      steps: [2, 1],
    },
  ),
  checkpoints('checkpoints-more', 'The same with more steps.', { takeOut: [], isSmall: false }),
  checkpoints('vanishing', 'The same, and the newest entry vanishes, which frees its name; one host remembers.', {
    takeOut: [['P11.remember'], ['P11.chain'], ['P11.ahead']],
    vanishing: 1,
    steps: [2, 1],
  }),
  checkpoints('vanishing-more', 'The same with two entries that vanish and more steps.', {
    takeOut: [],
    vanishing: 2,
    isSmall: false,
  }),
  checkpoints('limit-freed-name', 'What two rounds of opening cannot see once a name was freed and taken again.', {
    takeOut: [],
    vanishing: 1,
    isStrict: true,
    isLimit: true,
  }),
  {
    name: 'single-writer',
    about: 'Two writers on a store without create-only, each told to be alone; both may crash.',
    isSmall: true,
    takeOut: [['P13.keys'], ['P13.look'], ['P13.readOnly']],
    build: (without) => singleWriterModel({ writers: 2, jobs: 1, crashes: 1 }, without) as Model<unknown>,
  },
  {
    name: 'single-writer-more',
    about: 'The same, two jobs each.',
    isSmall: false,
    takeOut: [],
    build: (without) => singleWriterModel({ writers: 2, jobs: 2, crashes: 1 }, without) as Model<unknown>,
  },
  {
    name: 'limit-late-put',
    about: 'One writer that crashes while its PUT is on its way forks its own log, if there is no create-only.',
    isSmall: true,
    isLimit: true,
    takeOut: [],
    build: (without) =>
      singleWriterModel({ writers: 1, jobs: 2, crashes: 1, isStrict: true }, without) as Model<unknown>,
  },
];
