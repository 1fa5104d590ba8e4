import { expect, test } from 'vitest';
import { ReadStreams } from '../../../src/repository/restore/backup-image.ts';

test('one read is no stream, and neither are reads here and there', () => {
  const streams = new ReadStreams(10_000, 64);
  for (const block of [0, 5000, 100, 9000, 3000, 700]) expect(streams.follow(block, 1)).toBeUndefined();
});

test('reads that follow one another are read ahead of, further and further, each block once, up to the end', () => {
  const streams = new ReadStreams(200, 32);
  const ahead: number[] = [];
  let requests = 0;
  let most = 0;
  for (let block = 0; block < 200; block++) {
    const wanted = streams.follow(block, 1);
    if (wanted === undefined) continue;
    requests++;
    for (let each = wanted.first; each < wanted.first + wanted.count; each++) ahead.push(each);
    most = Math.max(most, wanted.first + wanted.count - block - 1);
  }
  // Block 0 was no stream yet, and 1 is what showed that it is one.
  expect(ahead).toEqual(Array.from({ length: 198 }, (_, index) => index + 2));
  expect(most).toBe(32);
  expect(requests).toBeLessThan(20);
});

test('parts of one block, and reads that overtake each other, are one stream', () => {
  const streams = new ReadStreams(1000, 32);
  for (let part = 0; part < 10; part++) expect(streams.follow(5, 1)).toBeUndefined();
  expect(streams.follow(6, 1)).toEqual({ first: 7, count: 4 });
  expect(streams.follow(8, 1)).toEqual({ first: 11, count: 6 });
  expect(streams.follow(7, 1)).toBeUndefined();
  expect(streams.follow(9, 1)).toEqual({ first: 17, count: 9 });
});

test('what may not be read ahead now is read ahead later', () => {
  const streams = new ReadStreams(1000, 32);
  for (const block of [0, 1, 2]) expect(streams.follow(block, 1, false)).toBeUndefined();
  expect(streams.follow(3, 1)).toEqual({ first: 4, count: 4 });
});

test('several readers have a stream each', () => {
  const streams = new ReadStreams(10_000, 8);
  let ahead = 0;
  for (let step = 0; step < 20; step++) {
    for (const start of [0, 2000, 4000, 6000]) ahead += streams.follow(start + step, 1)?.count ?? 0;
  }
  expect(ahead).toBeGreaterThan(4 * 18);
});

test('without room nothing is read ahead', () => {
  const streams = new ReadStreams(100, 0);
  for (let block = 0; block < 100; block++) expect(streams.follow(block, 1)).toBeUndefined();
});
