/**
 * Checks of arguments. Every public function checks its arguments once, where they enter. Each check returns the value, or
 * throws a `TypeError` that names the argument. All checks accept values of other realms (Jest, `vm`).
 */

export function integerArgument(
  name: string,
  value: unknown,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw new TypeError(`${name} must be an integer from ${min} to ${max}, not ${described(value)}`);
  }
  return value;
}

/** As {@link integerArgument}, but `Infinity` is allowed, too. */
export function limitArgument(name: string, value: unknown, min: number): number {
  return value === Number.POSITIVE_INFINITY ? value : integerArgument(name, value, min);
}

export function textArgument(name: string, value: unknown): string {
  if (typeof value !== 'string' || value.length === 0) {
    throw new TypeError(`${name} must be a string that is not empty`);
  }
  return value;
}

export function choiceArgument<T extends string>(name: string, value: unknown, choices: readonly T[]): T {
  if (!choices.includes(value as T)) {
    throw new TypeError(`${name} must be one of ${choices.join(', ')}, not ${described(value)}`);
  }
  return value as T;
}

/**
 * Returns the options of a public function, or an empty object for `undefined`. Throws a `TypeError` for anything but a plain
 * object (a `Map` has no keys, so all of its options would be ignored) and for an unknown key, because a misspelt option must
 * not silently switch off a protection.
 *
 * @param known - all keys of the options' type, which the compiler checks
 */
export function optionsArgument<T extends object>(
  name: string,
  value: T | undefined,
  known: Readonly<Record<keyof T, true>>,
): T {
  if (value === undefined) return {} as T;
  plainObjectArgument(name, value);
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(known, key)) throw new TypeError(unknownOption(name, key, Object.keys(known)));
  }
  return value;
}

export function plainObjectArgument(name: string, value: unknown): object {
  // The tag is the same in all realms, the prototype is not.
  if (typeof value !== 'object' || value === null || Object.prototype.toString.call(value) !== '[object Object]') {
    throw new TypeError(`${name} must be a plain object, not ${described(value)}`);
  }
  return value;
}

export function booleanArgument(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw new TypeError(`${name} must be true or false, not ${described(value)}`);
  return value;
}

export function functionArgument<T>(name: string, value: T): T {
  if (typeof value !== 'function') throw new TypeError(`${name} must be a function, not ${described(value)}`);
  return value;
}

export function signalArgument(name: string, value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  const signal = value as AbortSignal;
  if (
    typeof value !== 'object' ||
    typeof signal?.aborted !== 'boolean' ||
    typeof signal.addEventListener !== 'function'
  ) {
    throw new TypeError(`${name} must be an AbortSignal, not ${described(value)}`);
  }
  return signal;
}

export function dateArgument(name: string, value: unknown): Date {
  if (Object.prototype.toString.call(value) !== '[object Date]' || Number.isNaN(Number(value))) {
    throw new TypeError(`${name} must be a valid Date, not ${described(value)}`);
  }
  return value as Date;
}

/** Other views are refused: the length of a `Uint16Array` counts elements, so half of it would be written. */
export function bytesArgument(name: string, value: unknown): Uint8Array {
  if (Object.prototype.toString.call(value) !== '[object Uint8Array]' || !ArrayBuffer.isView(value)) {
    throw new TypeError(`${name} must be a Uint8Array, not ${described(value)}`);
  }
  const bytes = value as Uint8Array;
  // A view of memory that was detached, or that has shrunk until it ends before the view, has length 0: nothing would be
  // written, and the call would succeed.
  if (bytes.length === 0 && isOutOfReach(bytes)) {
    throw new TypeError(`${name} is a view of memory that was detached or made smaller`);
  }
  return bytes;
}

function isOutOfReach(bytes: Uint8Array): boolean {
  try {
    Uint8Array.prototype.keys.call(bytes);
    return false;
  } catch {
    return true;
  }
}

/** Describes a value in a few words, for messages. The description never holds the whole content of a long value. */
export function described(value: unknown): string {
  if (typeof value === 'string')
    return value.length > 40 ? `a string of ${value.length} characters` : JSON.stringify(value);
  if (typeof value === 'symbol' || typeof value === 'bigint') return `a ${typeof value}`;
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  return `a value of type ${Object.prototype.toString.call(value).slice(8, -1)}`;
}

function unknownOption(name: string, key: string, known: readonly string[]): string {
  const near = known.find((each) => each.toLowerCase() === key.toLowerCase() || isOneEditAway(each, key));
  const hint = near === undefined ? `known options: ${known.join(', ')}` : `did you mean ${near}?`;
  return `${name} has no option ${described(key)}; ${hint}`;
}

/** Whether the two differ by one letter that was added, dropped, changed, or swapped with its neighbour. */
function isOneEditAway(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false;
  let head = 0;
  while (head < Math.min(a.length, b.length) && a[head] === b[head]) head++;
  const [restA, restB] = [a.slice(head), b.slice(head)];
  return (
    restA.slice(1) === restB.slice(1) ||
    restA.slice(1) === restB ||
    restA === restB.slice(1) ||
    (restA[0] === restB[1] && restA[1] === restB[0] && restA.slice(2) === restB.slice(2))
  );
}
