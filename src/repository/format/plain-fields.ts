import { BackupError, type BackupErrorCode } from '../../common/errors.ts';
import { isBytes } from '../../common/realms.ts';

/**
 * The fields of a decoded map, each checked as it is taken. Fields that nobody asks for are let through: a later
 * version of the format may add some without shutting out older readers.
 */
export class MsgpackMap {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #code: BackupErrorCode;
  readonly #what: string;

  /** @param what - how errors call the object, for example `the format object` */
  constructor(value: unknown, code: BackupErrorCode, what: string) {
    this.#code = code;
    this.#what = what;
    if (typeof value !== 'object' || value === null || Array.isArray(value) || isBytes(value)) {
      throw this.corrupt('it is not a map');
    }
    this.#fields = value as Record<string, unknown>;
  }

  integer(name: string, min: number, max: number): number {
    const value = this.#fields[name];
    if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) throw this.invalid(name);
    return value as number;
  }

  text(name: string): string {
    const value = this.#fields[name];
    if (typeof value !== 'string') throw this.invalid(name);
    return value;
  }

  choice<const T extends string>(name: string, choices: readonly T[]): T {
    const value = this.#fields[name] as T;
    if (!choices.includes(value)) throw this.invalid(name);
    return value;
  }

  /** A copy, so that it does not keep the whole object in memory, and can be wiped. */
  bytes(name: string, minLength: number, maxLength: number = minLength): Uint8Array<ArrayBuffer> {
    const value = this.#fields[name];
    if (!isBytes(value) || value.length < minLength || value.length > maxLength) throw this.invalid(name);
    return Uint8Array.from(value);
  }

  texts(name: string): string[] {
    const value = this.#fields[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw this.invalid(name);
    return value;
  }

  /** Whether the field is nil or not there. */
  absent(name: string): boolean {
    return this.#fields[name] === undefined || this.#fields[name] === null;
  }

  /** Names the field, never its value: values may be long, and some of them are secrets. */
  invalid(name: string): BackupError {
    return this.corrupt(`its field ${name} is not valid`);
  }

  corrupt(how: string): BackupError {
    return new BackupError(this.#code, `${this.#what} is damaged: ${how}`);
  }
}
