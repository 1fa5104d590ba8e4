/** Checks of what callers pass in, so that a wrong type is a `TypeError` where it enters and nowhere else. */

/** Returns `value` when it is an integer from `min` to `max`, else throws a `TypeError` that names it. */
export function integerArgument(
  name: string,
  value: unknown,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw new TypeError(`${name} must be an integer from ${min} to ${max}, not ${String(value)}`);
  }
  return value;
}

/** As {@link integerArgument}, and also takes `Infinity`. */
export function limitArgument(name: string, value: unknown, min: number): number {
  return value === Number.POSITIVE_INFINITY ? value : integerArgument(name, value, min);
}

/** Returns `value` when it is a string with something in it, else throws a `TypeError` that names it. */
export function textArgument(name: string, value: unknown): string {
  if (typeof value !== 'string' || value.length === 0) {
    throw new TypeError(`${name} must be a string that is not empty`);
  }
  return value;
}

/** Returns `value` when it is one of `choices`, else throws a `TypeError` that lists them. */
export function choiceArgument<T extends string>(name: string, value: unknown, choices: readonly T[]): T {
  if (!choices.includes(value as T)) {
    throw new TypeError(`${name} must be one of ${choices.join(', ')}, not ${String(value)}`);
  }
  return value as T;
}
