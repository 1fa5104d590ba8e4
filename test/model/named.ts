/** One exploration by name, and short ways to write one down. */
import { checkpointModel } from './checkpoints.ts';
import { endingLogModel } from './ending-log.ts';
import type { EndingConfiguration } from './ending-state.ts';
import type { Model } from './explore.ts';
import { repositoryModel } from './repository.ts';
import type { Rule } from './rules.ts';
import type { Configuration } from './world.ts';

export interface Named {
  readonly name: string;
  readonly about: string;
  /** Small enough for the test file. */
  readonly isSmall: boolean;
  /** Shows a limit that the protocol documents: it is expected to be violated with every rule in force. */
  readonly isLimit?: boolean | undefined;
  /** Each of these, taken out by itself, must be found to break something; together where two overlap. */
  readonly takeOut: readonly (readonly Rule[])[];
  readonly build: (without: readonly Rule[]) => Model<unknown>;
}

export function repository(
  name: string,
  about: string,
  takeOut: (Rule | Rule[])[],
  configuration: Configuration,
  isSmall = true,
): Named {
  const build = (without: readonly Rule[]) => repositoryModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall, takeOut: takeOut.map((rules) => [rules].flat()), build };
}

export function checkpoints(
  name: string,
  about: string,
  options: {
    takeOut: readonly (readonly Rule[])[];
    vanishing?: number;
    steps?: readonly [number, number];
    isSmall?: boolean;
    isStrict?: boolean;
    isLimit?: boolean;
  },
): Named {
  const { takeOut, vanishing = 0, steps = [2, 2], isSmall = true, isStrict = false, isLimit = false } = options;
  const hosts = steps.map((count, index) => ({ hasMemory: index === 0, steps: count }));
  const build = (without: readonly Rule[]) =>
    checkpointModel({ hosts, maxTail: 2, vanishing, isStrict }, without) as Model<unknown>;
  return { name, about, isSmall, isLimit, takeOut, build };
}

export function ending(
  name: string,
  about: string,
  takeOut: readonly (Rule | readonly Rule[])[],
  configuration: EndingConfiguration,
  rest: Partial<Named> = {},
): Named {
  const build = (without: readonly Rule[]) => endingLogModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall: true, takeOut: takeOut.map((rules) => [rules].flat()), build, ...rest };
}

export type TakeOut = readonly (Rule | readonly Rule[])[];

/** Short ways to write down the configurations of one model. */
export function explorationsOf<C, S>(model: (configuration: C, without: readonly Rule[]) => Model<S>) {
  return (name: string, about: string, takeOut: TakeOut, configuration: C, rest: Partial<Named> = {}): Named => ({
    ...{ name, about, isSmall: true, takeOut: takeOut.map((rules) => [rules].flat()), ...rest },
    build: (without) => model(configuration, without) as Model<unknown>,
  });
}

/** The words of so many entries that mean nothing. */
export const plainLog = (count: number): string[] => Array.from({ length: count }, (_, index) => `i${index + 1}n`);
