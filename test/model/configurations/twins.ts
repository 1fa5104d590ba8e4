/** Two processes with one memory, and memories that were set back. */
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';
import { type TrackingConfiguration, trackingModel } from '../tracking.ts';
import { type TwinsConfiguration, twinsModel } from '../twins.ts';

type TakeOut = readonly (Rule | readonly Rule[])[];

function twins(name: string, about: string, takeOut: TakeOut, configuration: TwinsConfiguration): Named {
  const build = (without: readonly Rule[]) => twinsModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: configuration.jobs === 1, takeOut: takeOut.map((rules) => [rules].flat()), build };
}

function tracking(
  name: string,
  about: string,
  takeOut: TakeOut,
  configuration: TrackingConfiguration,
  rest: Partial<Named> = {},
): Named {
  const build = (without: readonly Rule[]) => trackingModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: true, takeOut: takeOut.map((rules) => [rules].flat()), build, ...rest };
}

export const TWINS: readonly Named[] = [
  twins(
    'twins',
    'A machine is cloned while it backs up: two processes in one session, with the same random numbers.',
    ['P1.createOnly', 'P1.sameContent', 'names.nonce', ['P5.wholeBytes', 'names.id']],
    { jobs: 1, isCloned: true, isSetBack: false },
  ),
  twins(
    'set-back-process',
    'A machine is set back with its volume while it backs up, and draws the same random numbers again.',
    ['P1.createOnly', 'names.nonce'],
    { jobs: 1, isCloned: false, isSetBack: true },
  ),
  twins('twins-more', 'Both, and two jobs each.', [], { jobs: 2, isCloned: true, isSetBack: true }),
  tracking(
    'tracked-set-back',
    'A volume is set back with the memory of its machine, and goes on under the same tracking id.',
    ['P3.witnessed', 'P3.earlier'],
    { writes: 2, backups: 2, setBack: 'with-volume' },
  ),
  tracking('tracked-twins', 'A machine with a volume is cloned, and both back up the same volume.', ['P3.witnessed'], {
    writes: 2,
    backups: 2,
    isCloned: true,
  }),
  tracking(
    'tracked-memory',
    'A memory is set back without its volume, and the log shows it: there is a newer backup.',
    ['P3.newest'],
    { writes: 1, backups: 3, setBack: 'alone-with-a-trace' },
  ),
  tracking(
    'tracked-set-back-more',
    'As tracked-set-back, with more writes and backups.',
    [],
    { writes: 3, backups: 3, setBack: 'with-volume' },
    { isSmall: false },
  ),
  tracking(
    'tracked-twins-more',
    'As tracked-twins, with one backup more.',
    [],
    { writes: 2, backups: 3, isCloned: true },
    { isSmall: false },
  ),
  tracking(
    'tracked-memory-more',
    'As tracked-memory, with more writes.',
    [],
    { writes: 3, backups: 3, setBack: 'alone-with-a-trace' },
    { isSmall: false },
  ),
  tracking(
    'limit-tracked-memory',
    'A memory is set back without its volume, and nothing shows it.',
    [],
    { writes: 2, backups: 2, setBack: 'alone' },
    { isLimit: true },
  ),
];
