import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { continuingSha256, MAX_SHA256_PADDING, sha256Padding } from '../../src/common/sha256.ts';
import { runAtOnce } from '../../src/common/yield-to-event-loop.ts';
import { randomBytesFrom } from '../../src/testing/seeded-random.ts';
import { randomForTest } from '../support/randomness.ts';

const random = randomForTest(1);
const sha256 = (...parts: Uint8Array[]) => new Uint8Array(createHash('sha256').update(Buffer.concat(parts)).digest());
const bytes = (length: number) => randomBytesFrom(random, length);

describe('SHA-256 from a digest on', () => {
  test('is that of the whole message, at every length around a block', () => {
    for (let length = 0; length < 200; length++) {
      const [message, rest] = [bytes(length), bytes((length * 7) % 150)];
      const digest = sha256(message);
      const found = runAtOnce(continuingSha256(digest, length, rest));
      expect(found).toEqual(sha256(message, sha256Padding(length), rest));
    }
  });

  test('pads up to a multiple of 64 bytes, and never by more than it says', () => {
    const lengths = Array.from({ length: 200 }, (_, length) => sha256Padding(length).length);
    expect(lengths.every((padding, length) => (length + padding) % 64 === 0)).toBe(true);
    expect([Math.min(...lengths), Math.max(...lengths)]).toEqual([9, MAX_SHA256_PADDING]);
  });

  test('counts bits beyond 32', () => {
    expect(
      sha256Padding(2 ** 32 - 1)
        .subarray(-8)
        .toString('hex'),
    ).toBe('00000007fffffff8');
  });

  test('of a long rest takes many steps', () => {
    const rest = bytes(200_000);
    const work = continuingSha256(sha256(), 0, rest);
    let steps = 0;
    let step = work.next();
    for (; !step.done; step = work.next()) steps++;
    expect(step.value).toEqual(sha256(sha256Padding(0), rest));
    expect(steps).toBeGreaterThan(5);
  });
});
