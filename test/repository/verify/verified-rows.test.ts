import { expect, test } from 'vitest';
import { sortInSteps } from '../../../src/common/sort-in-steps.ts';
import { runAtOnce } from '../../../src/common/yield-to-event-loop.ts';
import { nameOf, VerifiedRows } from '../../../src/repository/verify/earlier-verifications.ts';
import { randomBytes } from '../../support/randomness.ts';

const COUNT = 5120;
const packs = Array.from({ length: COUNT }, () => ({ session: 1, random: randomBytes(16).toString('hex') }));
const timesOf = (from: number, end: number, time: (n: number) => number) =>
  new Map(packs.slice(from, end).map((pack, n) => [nameOf(pack), time(from + n)]));

function steps(work: Generator<void, unknown, void>): number {
  for (let count = 1; ; count++) if (work.next().done) return count;
}

test('rows ascend, keep the later time, and leave out packs that are not there', () => {
  const some = runAtOnce(
    VerifiedRows.EMPTY.with(
      timesOf(0, 3000, (n) => n + 1),
      packs,
    ),
  );
  const there = packs.filter((_, n) => n % 7 !== 0);
  const rows = runAtOnce(
    some.with(
      timesOf(2000, 4000, (n) => (n % 2 === 0 ? 10_000 : 1)),
      there,
    ),
  );
  const read = runAtOnce(VerifiedRows.reading(Uint8Array.from(rows.body)));
  const expected = packs.map((_, n) => {
    if (n % 7 === 0 || n >= 4000) return 0;
    const noted = n < 2000 ? 0 : n % 2 === 0 ? 10_000 : 1;
    return Math.max(noted, n < 3000 ? n + 1 : 0);
  });
  expect(packs.map((pack) => read.of(pack))).toEqual(expected);
  const names = Array.from({ length: (rows.body.length - 1) / 12 }, (_, n) =>
    rows.body.toString('hex', 1 + n * 12, 9 + n * 12),
  );
  expect(names).toEqual(
    there
      .filter((pack) => rows.of(pack) > 0)
      .map(nameOf)
      .sort(),
  );
});

test('what does not ascend, is cut, or is of another version counts as nothing', () => {
  const { body } = runAtOnce(
    VerifiedRows.EMPTY.with(
      timesOf(0, 9, () => 5),
      packs,
    ),
  );
  const is = (bytes: Uint8Array) => runAtOnce(VerifiedRows.reading(bytes)).body.length > 1;
  expect(is(body)).toBe(true);
  expect(is(body.subarray(0, body.length - 1))).toBe(false);
  expect(is(Buffer.concat([body, body.subarray(1)]))).toBe(false);
  expect(is(Buffer.concat([Buffer.of(2), body.subarray(1)]))).toBe(false);
});

test('rows are read and put together in steps of 512', () => {
  const noted = timesOf(0, COUNT, () => 5);
  const rows = runAtOnce(VerifiedRows.EMPTY.with(noted, packs));
  expect(steps(VerifiedRows.EMPTY.with(noted, packs))).toBe(11);
  expect(steps(rows.with(noted, packs))).toBe(21);
  expect(steps(VerifiedRows.reading(rows.body))).toBe(10);
});

test('sorting in turns gives what sorting at once gives, with equal ones in their order', async () => {
  for (const count of [0, 1, 2048, 2049, 10_000]) {
    const items = Array.from({ length: count }, (_, n) => ({ n, key: randomBytes(1)[0] as number }));
    expect(await sortInSteps(items, (a, b) => a.key - b.key)).toEqual(items.toSorted((a, b) => a.key - b.key));
  }
});
