import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

test('docs/errors.md lists every code of the source once, and no other', () => {
  const source = readFileSync(join(root, 'src/common/errors.ts'), 'utf8');
  const union = source.slice(
    source.indexOf('KnownBackupErrorCode ='),
    source.indexOf(';', source.indexOf('KnownBackupErrorCode =')),
  );
  const inSource = [...union.matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code);
  const inDocs = [...readFileSync(join(root, 'docs/errors.md'), 'utf8').matchAll(/^\| `([A-Z_]+)` +\|/gm)].map(
    ([, code]) => code,
  );
  expect(inSource.length).toBeGreaterThan(40);
  expect(inDocs.toSorted()).toEqual(inSource.toSorted());
});
