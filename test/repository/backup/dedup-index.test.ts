import { expect, test } from 'vitest';
import { DedupIndex } from '../../../src/repository/backup/dedup-index.ts';
import { packRowKey } from '../../../src/repository/format/catalogue-pages.ts';
import { EMPTY_STATE, type LogState } from '../../../src/repository/format/log-state.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { location, pack } from '../log/support/facts.ts';

/** P10 and L10, without reading pages: what was known once is used until it is condemned. */

const known = pack(3, 'a');
const key = packRowKey(known.session, known.random);
const inPage = { seq: 5, sha256: new Uint8Array(32), size: 9, rows: 1, level: 1, first: key, last: key } as const;
const state: LogState = { ...EMPTY_STATE, seq: 10, pages: { backups: [], packs: [inPage] } };
const by = { seq: 12, at: 0 };
const condemned: LogState = { ...state, seq: 12, condemned: new Map([[packKey(known), { pack: known, ...by }]]) };
/** Its row is not in a page any more, but another one of the range is. */
const gone: LogState = { ...state, seq: 14, condemned: new Map(), goneThrough: 12 };

function index(): DedupIndex {
  const found = new DedupIndex();
  found.add([['content', location(known)]], state);
  return found;
}

test('what is in a page is found until its pack is condemned', () => {
  const found = index();
  expect(found.find('content', state)).toEqual(location(known));
  expect(found.find('other', condemned)).toBeUndefined();
  // The state does not name it any more.
  expect(found.find('content', gone)).toBeUndefined();
});

test('what may have been condemned and gone between two looks is not found', () => {
  expect(index().find('content', gone)).toBeUndefined();
  expect(index().find('content', { ...gone, goneThrough: 9 })).toEqual(location(known));
});
