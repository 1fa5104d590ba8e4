import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import * as main from '../../src/index.ts';
import * as s3 from '../../src/s3.ts';
import * as testing from '../../src/testing.ts';
import { apiReports, type ReportedCall } from '../support/api-report.ts';
import { randomForTest, times, withinMs } from '../support/randomness.ts';
import { FUNCTIONS, IMPLEMENTED_BY_HOSTS, VALUES } from './support/misuse-functions.ts';
import { SUBJECTS, type Subject } from './support/misuse-subjects.ts';
import { World } from './support/misuse-world.ts';
import { faultOf, isAccident, misuse, outcomeOf, wrongValue } from './support/refusals.ts';
import { type Parameter, shown } from './support/wrong-values.ts';

/**
 * Everything that is exported is called with wrong arguments: each parameter with each value that it can't be, then several
 * at once. Each call is refused by a `TypeError` that names the parameter or the option, or by the `BackupError` that is
 * documented for that value; none is answered, hangs or fails later, and nothing in the device or the repository has changed.
 * What there is to call is read from the API reports.
 */

let world: World;
let before: readonly string[];
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

/** What refuses a whole method has no word on which keys are wrong. */
const refusedBy = ({ refuses }: Subject, method: string, parameter: Parameter): Parameter => ({
  ...parameter,
  wrong: parameter.wrong.map((each) =>
    refuses?.includes(method) && /^keys?$/.test(parameter.name) ? { ...each, code: 'READ_ONLY' } : each,
  ),
});

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

/** All public properties that an object has, its own or inherited. */
function propertiesOf(subject: object): string[] {
  const names = new Set<string>();
  for (let each = subject; each !== Object.prototype && each !== null; each = Object.getPrototypeOf(each)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(each))) {
      if (typeof value !== 'function') names.add(name);
    }
  }
  return [...names];
}

/** For those who derive a class of their own. */
const PROTECTED = /^(forward[A-Z]\w*|around|requireOpen|cover\w*|checkWrite|sectors|inner|snapshotOf)$/;
/** Ours alone: the exported types of jobs and images don't have them. */
const INTERNAL = /^(abandon|describe|moved|overwritten)$/;

describe('the table', () => {
  const reports = apiReports();
  const entries = new Map(FUNCTIONS.map((entry) => [entry.name, entry.parameters]));
  const calls = reports.flatMap(({ name, call, statics }): [string, ReportedCall][] => [
    ...(call === undefined ? [] : [[name, call] as [string, ReportedCall]]),
    ...[...statics].map(([each, of]): [string, ReportedCall] => [`${name}.${each}`, of]),
  ]);
  const methods = reports
    .filter(({ name }) => !IMPLEMENTED_BY_HOSTS.includes(name))
    .flatMap((type) => [...type.methods].map(([method, call]) => ({ type: type.name, method, call })));

  test.each(calls)('has %s with its parameters and options', (name, call) => {
    expect(shapeOf(entries.get(name))).toEqual(shapeOf(call.parameters));
  });

  test.each(methods)('has $method of $type, with its parameters and options', ({ type, method, call }) => {
    const subject = SUBJECTS.find(({ is }) => is.includes(type));
    expect(subject, `somebody who is a ${type}`).toBeDefined();
    expect(shapeOf(subject?.methods[method])).toEqual(shapeOf(call.parameters));
  });

  test('has every export of every entry point', () => {
    const named = new Set([...entries.keys(), ...VALUES]);
    const missing = [main, s3, testing].flatMap((entry) =>
      Object.entries(entry).flatMap(([name, value]) => {
        const statics = Object.entries(Object.getOwnPropertyDescriptors(value ?? {}))
          .filter(([key, { value: member }]) => typeof member === 'function' && key !== 'prototype')
          .map(([key]) => `${name}.${key}`);
        // A class that only its own static methods make has no entry of its own.
        const isMade = statics.some((each) => named.has(each));
        return [...(isMade ? [] : [name]), ...(typeof value === 'function' ? statics : [])].filter(
          (each) => !named.has(each),
        );
      }),
    );
    expect(missing).toEqual([]);
  });

  test.each(SUBJECTS)('has every method of $name, and no other', async (subject) => {
    const at = subject.changes === true ? await World.open() : world;
    const made = (await subject.make(at)) as object;
    const found = methodsOf(made).filter((name) => !PROTECTED.test(name));
    expect(found.filter((name) => !(name in subject.methods) && !INTERNAL.test(name))).toEqual([]);
    const absent = Object.keys(subject.methods).filter((name) => !found.includes(name));
    expect(absent.filter((name) => !subject.lacks?.includes(name))).toEqual([]);
    if (at !== world) await at.close();
  });
});

/** Names of parameters, and of options where they are any. */
function shapeOf(parameters: readonly Pick<Parameter, 'name' | 'keys'>[] | undefined): unknown {
  return parameters?.map(({ name, keys }) => (keys === undefined ? name : { [name]: [...new Set(keys)].sort() }));
}

async function several(
  name: string,
  parameters: readonly Parameter[],
  call: (args: unknown[]) => unknown,
): Promise<string[]> {
  const random = randomForTest();
  const faults: string[] = [];
  for (let time = 0; parameters.length > 0 && time < times(2); time++) {
    const wrong = parameters.map((parameter) => parameter.wrong[random.below(parameter.wrong.length)]!);
    const args = wrong.map((each) => wrongValue(each, world));
    const fault = faultOf(await outcomeOf(() => call(args)), wrong);
    if (fault !== undefined) faults.push(`${name}(${args.map(shown).join(', ')}) ${fault}`);
  }
  return faults;
}

describe('wrong arguments are refused', () => {
  test.each(FUNCTIONS)(
    'by $name',
    async ({ name, call, parameters, answers }) => {
      const apply = (args: unknown[]) => (call as (...all: unknown[]) => unknown)(...args);
      expect(await misuse(name, parameters, world, apply, answers)).toEqual([]);
      if (answers === undefined) expect(await several(name, parameters, apply)).toEqual([]);
    },
    withinMs(60_000),
  );

  test.each(SUBJECTS)(
    'by every method of $name',
    async (subject) => {
      const at = subject.changes === true ? await World.open() : world;
      const made = (await subject.make(at)) as Methods;
      const faults: string[] = [];
      for (const [method, parameters] of callable(made, subject)) {
        const apply = (args: unknown[]) => (made[method] as Methods[string]).apply(made, args);
        const name = `${subject.name}.${method}`;
        const tried = parameters.map((each) => refusedBy(subject, method, each));
        faults.push(...(await misuse(name, tried, at, apply)), ...(await several(name, tried, apply)));
      }
      expect(faults).toEqual([]);
      if (at !== world) await at.close();
    },
    withinMs(120_000),
  );

  test('and nothing has changed, and nothing fails later', async () => {
    expect(await world.fingerprint()).toEqual(before);
    await new Promise((resolve) => setImmediate(resolve));
    expect(unhandled).toEqual([]);
  });
});

describe('what takes no arguments, and what is read', () => {
  test.each(SUBJECTS)(
    'of $name does not mind any, and stays as it is when a reader scribbles on it',
    async (subject) => {
      const own = subject.isOfWorld === true ? await World.open() : world;
      try {
        const made = (await subject.make(own)) as Methods;
        const faults: string[] = [];
        for (const name of propertiesOf(made).filter(
          (each) => !subject.live?.includes(each) && !PROTECTED.test(each),
        )) {
          const shownBefore = inspect(made[name], { depth: 1 });
          scribbleOn(made[name]);
          if (inspect(made[name], { depth: 1 }) !== shownBefore) faults.push(`${name} can be changed by its reader`);
        }
        const without = callable(made, subject).filter(([, parameters]) => parameters.length === 0);
        for (const [method] of without.sort(([a], [b]) => Number(isEnd(a, subject)) - Number(isEnd(b, subject)))) {
          if (subject.name === 'sliceDevice' && subject.ends?.includes(method)) continue;
          const outcome = await outcomeOf(() =>
            (made[method] as Methods[string]).apply(made, [null, Symbol('surplus')]),
          );
          if (outcome.kind === 'hangs') faults.push(`${method} hangs`);
          if (outcome.kind === 'threw' && isAccident(outcome.error)) faults.push(`${method} throws ${outcome.error}`);
        }
        expect(faults).toEqual([]);
      } finally {
        if (own !== world) await own.close();
      }
    },
    withinMs(60_000),
  );
});

const isEnd = (method: string, subject: Subject) => method === 'close' || (subject.ends?.includes(method) ?? false);

function scribbleOn(value: unknown): void {
  try {
    if (ArrayBuffer.isView(value)) (value as Uint8Array).fill(0xee);
    else if (Array.isArray(value)) value.length = 0;
    else if (Object.prototype.toString.call(value) === '[object Date]') (value as Date).setTime(0);
    else if (Object.prototype.toString.call(value) === '[object Object]' && !Object.isFrozen(value)) {
      const fields = Object.entries(value as object).filter(([, each]) => ArrayBuffer.isView(each));
      for (const [, each] of fields) scribbleOn(each);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // What is frozen says so.
  }
}

describe('what is closed', () => {
  test.each(SUBJECTS.filter(({ methods }) => 'close' in methods))(
    'refuses every call of $name, and closes only once',
    async (subject) => {
      const own = subject.isOfWorld === true ? await World.open() : world;
      try {
        const made = (await subject.make(own)) as Methods;
        await Promise.all([made.close?.(), made.close?.()]);
        await made.close?.();
        const faults: string[] = [];
        for (const [method, parameters] of callable(made, subject)) {
          const args = parameters.map(({ right }) => right(own as never));
          const outcome = await outcomeOf(() => (made[method] as Methods[string]).apply(made, args));
          if (outcome.kind === 'hangs') faults.push(`${method} hangs`);
          if (outcome.kind === 'threw' && isAccident(outcome.error)) faults.push(`${method} throws ${outcome.error}`);
          if (method === 'close' || subject.answersClosed?.includes(method)) continue;
          const isClosed = outcome.kind === 'threw' && BackupError.is(outcome.error, 'CLOSED');
          if (!isClosed)
            faults.push(
              `${method} is not refused with CLOSED: ${outcome.kind === 'threw' ? outcome.error : outcome.kind}`,
            );
        }
        for (const name of propertiesOf(made)) {
          try {
            void Object(made[name]);
          } catch (error) {
            if (isAccident(error)) faults.push(`reading ${name} throws ${error}`);
          }
        }
        expect(faults).toEqual([]);
      } finally {
        if (own !== world) await own.close();
      }
    },
    withinMs(60_000),
  );
});

function callable(made: Methods, { methods }: Subject): [string, readonly Parameter[]][] {
  return Object.entries(methods).filter(([name]) => typeof made[name] === 'function');
}
