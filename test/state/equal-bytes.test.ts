import { expect, test } from 'vitest';
import { endOfEqualBytes } from '../../src/state/equal-bytes.ts';

test.each([0, 1, 0x80, 0xff])('a run of bytes %i ends at the first other one, wherever it begins and ends', (byte) => {
  const length = 96;
  for (let from = 0; from < 40; from++) {
    for (let other = from + 1; other <= length; other++) {
      const bytes = new Uint8Array(length).fill(byte);
      if (from > 0) bytes[from - 1] = 7;
      if (other < length) bytes[other] = byte ^ 0x80;
      for (const end of [other, Math.min(length, other + 1), length, length - 3].filter((each) => each > from)) {
        expect(endOfEqualBytes(bytes, from, end), `from ${from}, other ${other}, end ${end}`).toBe(
          Math.min(other, end),
        );
      }
    }
  }
});
