import { expect, test } from 'vitest';
import { LruCache } from '../../src/common/lru-cache.ts';

test('what was used least recently is dropped until the weights add up to no more than the limit', () => {
  const cache = new LruCache<string, number>(10);
  cache.set('a', 1, 4);
  cache.set('b', 2, 4);
  expect(cache.get('a')).toBe(1);
  cache.set('c', 3, 4);
  expect([cache.peek('a'), cache.peek('b'), cache.peek('c')]).toEqual([1, undefined, 3]);
  expect(cache.weight).toBe(8);
});

test('a look at a value is no use of it', () => {
  const cache = new LruCache<string, number>(2);
  cache.set('a', 1);
  cache.set('b', 2);
  expect(cache.peek('a')).toBe(1);
  cache.set('c', 3);
  expect([cache.peek('a'), cache.peek('b'), cache.peek('c')]).toEqual([undefined, 2, 3]);
});

test('a value that weighs more than the limit is not kept, unless the newest always is', () => {
  const cache = new LruCache<string, number>(10);
  cache.set('a', 1, 4);
  cache.set('b', 2, 11);
  expect([cache.peek('a'), cache.peek('b')]).toEqual([1, undefined]);
  const keeping = new LruCache<string, number>(10, { keepsNewest: true });
  keeping.set('a', 1, 4);
  keeping.set('b', 2, 11);
  expect([keeping.peek('a'), keeping.peek('b'), keeping.weight]).toEqual([undefined, 2, 11]);
  keeping.set('c', 3, 10);
  expect([keeping.peek('b'), keeping.peek('c'), keeping.weight]).toEqual([undefined, 3, 10]);
});

test('a key that is set again takes its new weight, and a deleted one gives its weight back', () => {
  const cache = new LruCache<string, number>(10);
  cache.set('a', 1, 8);
  cache.set('a', 2, 3);
  expect([cache.get('a'), cache.weight]).toEqual([2, 3]);
  expect([cache.delete('a'), cache.delete('a'), cache.weight]).toEqual([true, false, 0]);
});
