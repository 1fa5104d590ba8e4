import { expect } from 'vitest';

/** Matches an error of that code, as in `rejects.toEqual(withCode('CLOSED'))`. */
export const withCode = (code: string) => expect.objectContaining({ code });
