import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BackupError } from '../../../../src/common/errors.ts';

const ERRORS = join(import.meta.dirname, '../../../../docs/errors.md');
/** The codes that `docs/errors.md` explains. */
const DOCUMENTED = new Set([...readFileSync(ERRORS, 'utf8').matchAll(/^\| `([A-Z_]+)` +\|/gm)].map(([, code]) => code));

export type Outcome<T> = { readonly value: T } | { readonly error: BackupError | DOMException };

/** What became of an operation: its result, or one documented error. Anything else is thrown. */
export async function attempt<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    if (!isDocumented(error)) throw new Error(`not a documented error: ${String(error)}`, { cause: error });
    return { error };
  }
}

/** An abort rejects with its reason, which in these tests is the default one. */
function isDocumented(error: unknown): error is BackupError | DOMException {
  if (BackupError.is(error)) return DOCUMENTED.has(error.code);
  return error instanceof DOMException && error.name === 'AbortError';
}
