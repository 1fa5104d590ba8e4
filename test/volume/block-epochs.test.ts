import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlockEpochs, CHUNK_BITS } from '../../src/volume/epochs/block-epochs.ts';
import { property } from '../support/randomness.ts';

/** The epochs of blocks against a plain array of them. */

const CHUNK = 2 ** CHUNK_BITS;
const BLOCKS = 3 * CHUNK + 100;

const place = fc
  .tuple(fc.nat(3), fc.integer({ min: -3, max: 3 }))
  .map(([chunk, near]) => Math.min(BLOCKS, Math.max(0, chunk * CHUNK + near)));
const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('write' as const), from: place, to: place }),
    fc.record({ kind: fc.constant('instant' as const) }),
    fc.record({ kind: fc.constant('renumber' as const), divisor: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('look' as const), from: place, epoch: fc.nat(20) }),
  ),
  { maxLength: 30 },
);

test('blocks have the epoch of their newest write, however often epochs have been renumbered since', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const epochs = new BlockEpochs(BLOCKS);
      const model = new Uint8Array(BLOCKS);
      let current = 1;
      const look = (from: number, epoch: number) => {
        const since = model.findIndex((is, block) => block >= from && is >= epoch);
        const before = model.findIndex((is, block) => block >= from && is < epoch);
        expect(epochs.nextSince(epoch, from, BLOCKS)).toBe(since < 0 ? BLOCKS : since);
        expect(epochs.nextBefore(epoch, from, BLOCKS)).toBe(before < 0 ? BLOCKS : before);
        if (from < BLOCKS) expect(epochs.isSince(from, epoch)).toBe((model[from] as number) >= epoch);
      };
      for (const step of list) {
        if (step.kind === 'write') {
          const [first, end] = [Math.min(step.from, step.to), Math.max(step.from, step.to)];
          epochs.set(first, end, current);
          model.fill(current, first, end);
        } else if (step.kind === 'instant') {
          current++;
        } else if (step.kind === 'renumber') {
          const newEpoch = Uint8Array.from({ length: 256 }, (_, epoch) => Math.ceil(epoch / step.divisor));
          epochs.renumber(newEpoch);
          current = newEpoch[current] as number;
          for (const [block, epoch] of model.entries()) model[block] = newEpoch[epoch] as number;
        } else {
          look(step.from, step.epoch);
        }
      }
      for (let epoch = 0; epoch <= current + 1; epoch++) look(0, epoch);
      expect(model.every((epoch, block) => epochs.get(block) === epoch)).toBe(true);
    }),
    property(60),
  );
});
