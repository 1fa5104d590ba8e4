import { runInNewContext } from 'node:vm';
import type { BackupErrorCode } from '../../../src/common/errors.ts';

/** A value that a parameter can't have, and what the refusal must be. */
export interface Wrong {
  /** The value, or an `OfWorld` that makes it. */
  readonly value: unknown;
  /** A `TypeError` must name one of these: the parameter, or the option. */
  readonly names: readonly string[];
  /** What the value is refused with instead of a `TypeError`. */
  readonly code?: BackupErrorCode | undefined;
}

/** A parameter of a public function: a value that is right, and values that are not. */
export interface Parameter {
  /** As the API report has it. */
  readonly name: string;
  readonly right: (world: never) => unknown;
  readonly wrong: readonly Wrong[];
  /** Of an object with named values: the names that were tried. */
  readonly keys?: readonly string[] | undefined;
}

/** Values that are refused with a code, as is documented, since only the call can find out that they are wrong. */
export class Coded {
  readonly code: BackupErrorCode;
  readonly value: unknown;

  constructor(code: BackupErrorCode, value: unknown) {
    this.code = code;
    this.value = value;
  }
}
export const coded = (code: BackupErrorCode, ...values: unknown[]) => values.map((value) => new Coded(code, value));

/** A wrong value that something of the world is a part of. */
export class OfWorld {
  readonly make: (world: never) => unknown;
  /** What a refusal may name instead of the parameter. */
  readonly names: readonly string[];

  constructor(make: (world: never) => unknown, ...names: string[]) {
    this.make = make;
    this.names = names;
  }
}

const detached = (): Uint8Array => {
  const bytes = new Uint8Array(512);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  return bytes;
};
const foreign = (code: string): unknown => runInNewContext(code);

/** Wrong wherever something is wanted that is neither a text nor a number nor optional. */
const NO_OBJECT: readonly unknown[] = [undefined, null, 5, 'text', true, 5n, Symbol('a symbol'), () => {}];
const NO_TEXT: readonly unknown[] = [undefined, null, 5, '', true, {}, [], ['text'], Symbol('a symbol'), () => {}];
const NO_NUMBER: readonly unknown[] = [
  null,
  '1',
  '',
  true,
  Number.NaN,
  -1,
  0.5,
  -0.5,
  {},
  [],
  [1],
  1n,
  Symbol('a symbol'),
];
const NO_BYTES: readonly unknown[] = [
  ...NO_OBJECT,
  {},
  [],
  [1, 2],
  new Map(),
  new Uint16Array(256),
  new ArrayBuffer(512),
  new DataView(new ArrayBuffer(512)),
  detached(),
  foreign('new Uint16Array(256)'),
];

const wrongs = (values: readonly unknown[], names: readonly string[]): Wrong[] =>
  values.map((value) => {
    if (value instanceof Coded) return { value: value.value, code: value.code, names };
    return { value, names: value instanceof OfWorld ? [...names, ...value.names] : names };
  });
const rightOf = (right: unknown) => (typeof right === 'function' ? (right as Parameter['right']) : () => right);
const parameter = (name: string, right: unknown, values: readonly unknown[]): Parameter => ({
  name,
  right: rightOf(right),
  wrong: wrongs(values, [name]),
});

/** An integer from 0 on. @param more - other values that it can't be */
export const integer = (name: string, right: unknown, ...more: unknown[]) =>
  parameter(name, right, [undefined, ...NO_NUMBER, Number.POSITIVE_INFINITY, ...more]);
/** An integer of which the call itself says that it is out of range where it is negative. */
export const offset = (name: string, right: unknown, ...more: unknown[]) =>
  parameter(name, right, [
    undefined,
    ...NO_NUMBER.filter((value) => value !== -1),
    Number.POSITIVE_INFINITY,
    ...coded('OUT_OF_RANGE', -1),
    ...more,
  ]);
export const text = (name: string, right: unknown, ...more: unknown[]) => parameter(name, right, [...NO_TEXT, ...more]);
export const bytes = (name: string, right: unknown) => parameter(name, right, NO_BYTES);
export const object = (name: string, right: unknown, ...more: unknown[]) =>
  parameter(name, right, [...NO_OBJECT, {}, [], new Map(), foreign('({})'), ...more]);
export const callback = (name: string, right: unknown) =>
  parameter(name, () => right, [undefined, null, 5, 'text', {}, []]);
export const list = (name: string, right: unknown, wrongElements: readonly unknown[] = [null, 5, {}]) =>
  parameter(name, right, [
    ...NO_OBJECT,
    {},
    new Map(),
    ...wrongElements.map((element) =>
      element instanceof Coded
        ? new Coded(element.code, [element.value])
        : element instanceof OfWorld
          ? element
          : [element],
    ),
  ]);
export const choice = (name: string, right: unknown, isOptional = false) =>
  parameter(name, right, [...(isOptional ? [] : [undefined]), null, 5, 'nonsense', 'toString', {}, [], true]);
/** Something else, of which all wrong values are given. */
export const other = (name: string, right: unknown, ...values: unknown[]) => parameter(name, right, values);

/** Wrong values of options, by what an option is. */
export const OPTIONAL = {
  boolean: [null, 0, 1, 'true', 'false', {}, []],
  number: NO_NUMBER,
  text: NO_TEXT.slice(1),
  callback: [null, 5, 'text', {}, []],
  signal: [null, 5, 'text', {}, [], { aborted: 'no' }],
  object: [null, 5, 'text', [], new Map(), { nonsense: 1 }],
  clock: [null, 5, 'text', {}, { sleep: 5, now: 5 }],
  date: [null, 5, '2026-01-01', {}, new Date(Number.NaN)],
} as const satisfies Record<string, readonly unknown[]>;

type Kinds = Readonly<Record<string, readonly unknown[]>>;

/** An object of named values: each of `kinds` gets each wrong value of its kind, and so do all as a whole. */
export function fields(name: string, kinds: Kinds, required: Record<string, unknown> = {}): Parameter {
  const isRequired = Object.keys(required).length > 0;
  const whole = [null, 5, 'text', true, [], [1], new Map([['signal', 1]]), new Date(0)];
  const missing = isRequired ? wrongs([undefined, {}], [name, ...Object.keys(required)]) : [];
  const unknown = [
    { value: { ...required, nonsense: 1 }, names: ['nonsense'] },
    { value: { ...required, Signal: undefined }, names: ['Signal'] },
    { value: { ...required, '': 0 }, names: [name] },
  ];
  const each = Object.entries(kinds).flatMap(([key, values]) =>
    values.map((value): Wrong => {
      const given = value instanceof Coded ? value.value : value;
      const code = value instanceof Coded ? value.code : undefined;
      return { value: { ...required, [key]: given }, code, names: [key, ...nestedNames(given)] };
    }),
  );
  return {
    name,
    right: () => (isRequired ? { ...required } : undefined),
    wrong: [...wrongs(whole, [name]), ...missing, ...unknown, ...each],
    keys: Object.keys(kinds),
  };
}

export const options = (kinds: Kinds, required: Record<string, unknown> = {}) => fields('options', kinds, required);

/** Of an option that is an object itself, what is wrong within may be named by its own name. */
function nestedNames(value: unknown): string[] {
  return Object.prototype.toString.call(value) === '[object Object]' ? Object.keys(value as object) : [];
}

/** As it is, where what it derives from has another name for it. */
export const alsoNamed = (name: string, parameter: Parameter): Parameter => ({
  ...parameter,
  wrong: parameter.wrong.map((each) => ({ ...each, names: [...each.names, name] })),
});

/** For messages. */
export function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) {
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    if (tag !== 'Object') return Array.isArray(value) ? `[${value.map(shown)}]` : tag;
    if (Object.getPrototypeOf(value)?.constructor?.name !== 'Object') return value.constructor?.name ?? tag;
    return `{${Object.entries(value).map(([key, each]) => `${key}: ${shown(each)}`)}}`;
  }
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
