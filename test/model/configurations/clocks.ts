/** Clocks of hosts and stores that jump. */
import { type AgesConfiguration, agesModel } from '../ages.ts';
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';

function clocks(name: string, about: string, takeOut: readonly Rule[], configuration: AgesConfiguration): Named {
  const build = (without: readonly Rule[]) => agesModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: true, takeOut: takeOut.map((rule) => [rule]), build };
}

export const CLOCKS: readonly Named[] = [
  clocks(
    'clocks',
    'A store with a clock; it and the clocks of all hosts jump by decades.',
    ['P8.storeClock', 'P8.redated'],
    { hasClock: true, jumping: ['store', 'host', 'pruner'], jumps: 4 },
  ),
  clocks(
    'clocks-of-pruners',
    'A store without a clock; the clocks of all hosts jump by decades.',
    ['P8.prunersClock'],
    { hasClock: false, jumping: ['host', 'pruner'], jumps: 4 },
  ),
];
