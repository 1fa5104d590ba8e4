import { runInNewContext } from 'node:vm';

/** A parameter of a public function: a value that is right, and values that are not. */
export interface Parameter {
  readonly right: (world: never) => unknown;
  readonly wrong: readonly unknown[];
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

const parameter = (right: unknown, wrong: readonly unknown[]): Parameter => ({
  right: typeof right === 'function' ? (right as Parameter['right']) : () => right,
  wrong,
});

/** An integer from 0 on. @param most - what is just too large */
export const integer = (right: unknown, ...more: unknown[]) =>
  parameter(right, [undefined, ...NO_NUMBER, Number.POSITIVE_INFINITY, ...more]);
export const text = (right: unknown, ...more: unknown[]) => parameter(right, [...NO_TEXT, ...more]);
export const bytes = (right: unknown) => parameter(right, NO_BYTES);
export const object = (right: unknown, ...more: unknown[]) =>
  parameter(right, [...NO_OBJECT, {}, [], new Map(), foreign('({})'), ...more]);
export const callback = (right: unknown) => parameter(() => right, [undefined, null, 5, 'text', {}, []]);
export const list = (right: unknown, wrongElements: readonly unknown[] = [null, 5, {}]) =>
  parameter(right, [...NO_OBJECT, {}, new Map(), ...wrongElements.map((element) => [element])]);
export const choice = (right: unknown) => parameter(right, [undefined, null, 5, 'nonsense', 'toString', {}, [], true]);

/** Wrong values of options, by what an option is. */
export const OPTIONAL = {
  boolean: [null, 0, 1, 'true', 'false', {}, []],
  number: NO_NUMBER,
  text: NO_TEXT.slice(1),
  callback: [null, 5, 'text', {}, []],
  signal: [null, 5, 'text', {}, [], { aborted: 'no' }],
  object: [null, 5, 'text', [], new Map(), { nonsense: 1 }],
  date: [null, 5, '2026-01-01', {}, new Date(Number.NaN)],
} as const satisfies Record<string, readonly unknown[]>;

/** Options, the last parameter of a function: each of `kinds` gets each wrong value of its kind, and so do all as a whole. */
export function options(
  kinds: Readonly<Record<string, readonly unknown[]>>,
  required: Record<string, unknown> = {},
): Parameter {
  const isRequired = Object.keys(required).length > 0;
  const whole = [
    null,
    5,
    'text',
    true,
    [],
    [1],
    new Map([['signal', 1]]),
    new Date(0),
    ...(isRequired ? [undefined, {}] : []),
  ];
  const unknown = [
    { ...required, nonsense: 1 },
    { ...required, Signal: undefined },
    { ...required, '': 0 },
  ];
  const each = Object.entries(kinds).flatMap(([key, wrong]) => wrong.map((value) => ({ ...required, [key]: value })));
  return parameter(() => (isRequired ? { ...required } : undefined), [...whole, ...unknown, ...each]);
}

/** For messages. */
export function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) {
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    if (tag !== 'Object') return Array.isArray(value) ? `[${value.map(shown)}]` : tag;
    return `{${Object.entries(value).map(([key, each]) => `${key}: ${shown(each)}`)}}`;
  }
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
