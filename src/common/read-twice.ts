import { type BackupError, isDamage } from './errors.ts';

/** What was read, or what is damaged about it. */
export type Outcome<T> = { readonly value: T } | { readonly error: BackupError };

/** Reads a second time before damage is believed: a bad answer is not bad data. @throws errors that are no damage */
export async function readTwice<T>(read: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await read() };
  } catch (error) {
    if (!isDamage(error)) throw error;
  }
  try {
    return { value: await read() };
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { error };
  }
}
