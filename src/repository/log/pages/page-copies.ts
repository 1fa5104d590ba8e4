import type { AbortOptions } from '../../../common/abort.ts';
import { BackupError } from '../../../common/errors.ts';
import { mapConcurrently } from '../../../common/map-concurrently.ts';
import type { CloudTarget } from '../../../targets/cloud-target.ts';
import { type CataloguePages, type NamedPage, namedPages, pageKeyOf } from '../../format/catalogue-pages.ts';
import { secondCopyOf } from '../../format/object-keys.ts';
import { isLost, type PageSource, readPageCopy } from './page-store.ts';

const PAGES_AT_A_TIME = 4;

/** A copy of a page that can't be read. */
export interface LostCopy {
  readonly key: string;
  readonly error: BackupError;
}

/** What became of copies of pages. */
export interface CheckedCopies {
  /** Keys of copies that were lost, and that were written again. */
  readonly restored: readonly string[];
  readonly lost: readonly LostCopy[];
}

/**
 * Reads both copies of pages from the store, and writes a lost one again from the other.
 *
 * @param source - `mayWrite` says whether copies may be restored
 * @throws what the target throws
 */
export async function checkCopies(
  source: PageSource & { readonly mayWrite: boolean },
  pages: CataloguePages,
  { signal }: AbortOptions = {},
): Promise<CheckedCopies> {
  const { target, mayWrite } = source;
  const lost: LostCopy[] = [];
  const restored: string[] = [];
  const read = (page: NamedPage) => {
    const key = pageKeyOf(page.ref);
    return Promise.all([key, secondCopyOf(key)].map((copy) => readCopy(source, page, copy, signal)));
  };
  for await (const copies of mapConcurrently(namedPages(pages), read, PAGES_AT_A_TIME)) {
    signal?.throwIfAborted();
    const whole = copies.find(({ bytes }) => bytes !== undefined)?.bytes;
    for (const { key, error } of copies) {
      if (error === undefined) continue;
      const isWritten = mayWrite && whole !== undefined && (await restore(target, key, whole, signal));
      if (isWritten) restored.push(key);
      else lost.push({ key, error });
    }
  }
  return { restored, lost };
}

interface Copy {
  readonly key: string;
  readonly bytes?: Uint8Array;
  readonly error?: BackupError;
}

async function readCopy(
  source: PageSource,
  page: NamedPage,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Copy> {
  try {
    return { key, bytes: (await readPageCopy(source, key, page, { signal })).bytes };
  } catch (error) {
    if (!isLost(error)) throw error;
    return { key, error };
  }
}

/** A copy that can't be written stays lost. */
async function restore(
  target: CloudTarget,
  key: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    await target.put(key, Uint8Array.from(bytes), { signal });
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    if (!BackupError.is(error)) throw error;
    return false;
  }
}
