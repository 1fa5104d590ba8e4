import { join } from 'node:path';

/**
 * Where `FileTarget` keeps an object: the file that its key names below the folder, as a sync tool copies a bucket. What
 * is not an object lives in one reserved folder, whose name no key can hold (`docs/FORMAT.md`, section 11).
 */

/** The folder of this library's own files: the mark of the folder, and puts that are not finished. */
export const RESERVED = '.cow-cloud-backup';

/** Where an object is: the names of its directories below the folder, and two paths. */
export interface Place {
  readonly directories: readonly string[];
  readonly directory: string;
  readonly path: string;
}

/** Where the object of a key is in `folder`. */
export function placeOf(folder: string, key: string): Place {
  const names = key.split('/');
  const directories = names.slice(0, -1);
  return { directories, directory: join(folder, ...directories), path: join(folder, ...names) };
}
