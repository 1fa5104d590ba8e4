import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as main from '../../src/index.ts';
import * as s3 from '../../src/s3.ts';
import * as testing from '../../src/testing.ts';
import { randomForTest, times, withinMs } from '../support/randomness.ts';
import { FUNCTIONS, SUBJECTS, type Subject, VALUES, World } from './support/misuse-table.ts';
import { type Parameter, shown } from './support/wrong-values.ts';

/**
 * Everything that is exported is called with wrong arguments: each parameter with each value that it can't be, then several
 * at once. Each call is refused by a `TypeError` or a `BackupError`, none is answered, hangs or fails later, and nothing in
 * the device or the repository has changed.
 */

/** A call that has not been answered by then never will be. */
const HANGS_MS = 20_000;
/** What tells of the store, the network or the state of things rather than of the arguments. */
const NOT_ABOUT_ARGUMENTS = /^(TARGET_|LOG_|COMMIT_|WORKER_|REPOSITORY_CORRUPT|VOLUME_BUSY)/;
/** What JavaScript says of its own accord where nobody has looked at an argument. */
const ACCIDENTAL =
  /^Cannot (read|set|convert|mix|destructure)|is not (a function|iterable|defined|a constructor)|^Reduce of|in operator|'in'/;

/** Targets and their decorators: their doors are not all checked yet, so these are left out of the sweep of wrong arguments. */
const UNCHECKED = /^(with[A-Z]|readOnlyTarget|fanOut|(Memory|File|Faulty|S3)Target$)/;
const isChecked = ({ name }: { readonly name: string }) => !UNCHECKED.test(name);

let world: World;
let before: string;
const unhandled: unknown[] = [];
const onUnhandled = (error: unknown) => unhandled.push(error);
beforeAll(async () => {
  process.on('unhandledRejection', onUnhandled);
  world = await World.open();
  before = await world.fingerprint();
});
afterAll(async () => {
  await world.close();
  process.off('unhandledRejection', onUnhandled);
});

/** What a call came to: refused, or what it did instead. */
async function outcomeOf(call: () => unknown): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const hanging = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve('is not answered'), HANGS_MS);
  });
  try {
    return await Promise.race([settled(call), hanging]);
  } finally {
    clearTimeout(timer);
  }
}

async function settled(call: () => unknown): Promise<string> {
  try {
    const answer = await call();
    const steps = answer as Partial<AsyncIterable<unknown> & AsyncIterator<unknown>> | undefined;
    if (typeof steps === 'object' && steps !== null && Symbol.asyncIterator in steps) {
      await (steps as AsyncIterable<unknown>)[Symbol.asyncIterator]().next();
    }
    return 'is answered as if it were right';
  } catch (error) {
    if (main.BackupError.is(error)) {
      return NOT_ABOUT_ARGUMENTS.test(error.code) ? `is refused with ${error.code}: ${error.message}` : 'refused';
    }
    if (!(error instanceof TypeError)) return `throws ${String(error)}`;
    return ACCIDENTAL.test(error.message) ? `says "${error.message}"` : 'refused';
  }
}

/** Calls once for each wrong value of each parameter, the others being right. */
async function misuse(
  name: string,
  parameters: readonly Parameter[],
  call: (args: unknown[]) => unknown,
): Promise<string[]> {
  const faults: string[] = [];
  for (const [index, parameter] of parameters.entries()) {
    for (const wrong of parameter.wrong) {
      const args = parameters.map(({ right }, at) => (at === index ? wrong : right(world as never)));
      const outcome = await outcomeOf(() => call(args));
      if (outcome !== 'refused') faults.push(`${name}(${args.map(shown).join(', ')}) ${outcome}`);
    }
  }
  return faults;
}

async function several(
  name: string,
  parameters: readonly Parameter[],
  call: (args: unknown[]) => unknown,
): Promise<string[]> {
  if (parameters.length === 0) return [];
  const random = randomForTest();
  const faults: string[] = [];
  for (let time = 0; time < times(2); time++) {
    const args = parameters.map(({ wrong }) => wrong[random.below(wrong.length)]);
    if (args.every((value) => value === undefined)) continue;
    const outcome = await outcomeOf(() => call(args));
    if (!/^(refused|says)/.test(outcome)) faults.push(`${name}(${args.map(shown).join(', ')}) ${outcome}`);
  }
  return faults;
}

type Methods = Record<string, (...args: unknown[]) => unknown>;

/** All public methods that an object has, its own or inherited. */
function methodsOf(subject: object): string[] {
  const names = new Set<string>();
  for (let each = subject; each !== Object.prototype && each !== null; each = Object.getPrototypeOf(each)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(each))) {
      if (typeof value === 'function' && name !== 'constructor') names.add(name);
    }
  }
  return [...names];
}

/** For those who derive a class of their own. */
const PROTECTED = /^(forward[A-Z]\w*|around|requireOpen|cover\w*|checkWrite|sectors)$/;

describe('the table', () => {
  test('has every export of every entry point', () => {
    const named = new Set([...FUNCTIONS.map(({ name }) => name), ...VALUES]);
    const missing = [main, s3, testing].flatMap((entry) =>
      Object.entries(entry).flatMap(([name, value]) => {
        const statics = Object.entries(Object.getOwnPropertyDescriptors(value as object))
          .filter(([key, { value: member }]) => typeof member === 'function' && key !== 'prototype')
          .map(([key]) => `${name}.${key}`);
        // A class that only its own static methods make has no entry of its own.
        const isMade = statics.some((each) => named.has(each));
        return [...(isMade ? [] : [name]), ...(typeof value === 'function' ? statics : [])].filter(
          (each) => !named.has(each),
        );
      }),
    );
    expect(missing).toEqual(['BackupError.is']); // Which says no to anything.
  });

  test.each(SUBJECTS)('has every method of $name', async (subject) => {
    const made = (await subject.make(world)) as object;
    const missing = methodsOf(made).filter((name) => !(name in subject.methods) && !PROTECTED.test(name));
    expect(missing).toEqual([]);
  });
});

describe('wrong arguments are refused', () => {
  test.each(FUNCTIONS.filter(isChecked))(
    'by $name',
    async ({ name, call, parameters }) => {
      const apply = (args: unknown[]) => (call as (...all: unknown[]) => unknown)(...args);
      expect(await misuse(name, parameters, apply)).toEqual([]);
      expect(await several(name, parameters, apply)).toEqual([]);
    },
    withinMs(60_000),
  );

  test.each(SUBJECTS.filter(isChecked))(
    'by every method of $name',
    async (subject) => {
      const made = (await subject.make(world)) as Methods;
      const faults: string[] = [];
      for (const [method, parameters] of callable(made, subject)) {
        const apply = (args: unknown[]) => (made[method] as Methods[string]).apply(made, args);
        faults.push(...(await misuse(`${subject.name}.${method}`, parameters, apply)));
        faults.push(...(await several(`${subject.name}.${method}`, parameters, apply)));
      }
      expect(faults).toEqual([]);
    },
    withinMs(120_000),
  );

  test('and nothing has changed, and nothing fails later', async () => {
    expect((await world.fingerprint()) === before).toBe(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect(unhandled).toEqual([]);
  });
});

describe('what is closed', () => {
  test.each(SUBJECTS.filter(({ methods }) => 'close' in methods))(
    'refuses every call of $name, and closes only once',
    async (subject) => {
      const own = await World.open();
      try {
        const made = (await subject.make(own)) as Methods;
        await Promise.all([made.close?.(), made.close?.()]);
        await made.close?.();
        const faults: string[] = [];
        for (const [method, parameters] of callable(made, subject)) {
          if (subject.answersClosed?.includes(method)) continue;
          const args = parameters.map(({ right }) => right(own as never));
          const outcome = await outcomeOf(() => (made[method] as Methods[string]).apply(made, args));
          if (outcome !== 'refused') faults.push(`${subject.name}.${method} ${outcome}`);
        }
        expect(faults).toEqual([]);
      } finally {
        await own.close();
      }
    },
    withinMs(60_000),
  );
});

function callable(made: Methods, { methods }: Subject): [string, readonly Parameter[]][] {
  return Object.entries(methods).flatMap(([name, parameters]) =>
    parameters !== undefined && typeof made[name] === 'function' ? [[name, parameters]] : [],
  );
}
