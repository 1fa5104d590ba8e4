import fc from 'fast-check';
import type { PreserveFailure } from '../../../src/index.ts';
import { TEMPERS, type Temper } from './troubled-store.ts';

/** The volumes that a history runs on, and the host's choices for its format. */
export interface Shape {
  readonly blockSize: number;
  readonly blocks: number;
  /** Bytes of a short last block; 0 for none. */
  readonly tail: number;
  readonly isGroup: boolean;
  readonly onFailure: PreserveFailure;
  readonly memoryBlocks: number;
  readonly spillBlocks: number;
  /** Which transforms, in which order. */
  readonly transforms: readonly number[];
  readonly seed: number;
}

// Doubles themselves would nearly all be close to 0, as most doubles are.
const unit = fc.nat(9999).map((part) => part / 10_000);
const pick = fc.nat(7);
const disk = fc.nat(1);

export const shape: fc.Arbitrary<Shape> = fc
  .record({
    blockSize: fc.constantFrom(4096, 4096, 4096, 8192, 65536),
    blocks: fc.integer({ min: 1, max: 24 }),
    tail: unit,
    hasTail: fc.boolean(),
    isGroup: fc.boolean(),
    onFailure: fc.constantFrom<PreserveFailure[]>('fail-write', 'lose-block', 'break-snapshot'),
    memoryBlocks: fc.constantFrom(0, 1, 2, 5, 100),
    spillBlocks: fc.constantFrom(0, 0, 2),
    transforms: fc.uniqueArray(fc.nat(3)),
    seed: fc.nat(),
  })
  .map(({ tail, hasTail, blocks, ...rest }) => ({
    ...rest,
    blocks: rest.blockSize === 65536 ? Math.ceil(blocks / 4) : blocks,
    tail: hasTail ? 1 + Math.floor(tail * (rest.blockSize - 1)) : 0,
  }));

const tempers = Object.keys(TEMPERS) as Temper[];

/** What a run builds on: nothing, the newest run in the store, or any one. */
const base = fc.constantFrom('none' as const, 'newest' as const, 'newest' as const, 'newest' as const, 'any' as const);
const changes = fc.constantFrom('tracked' as const, 'tracked' as const, 'given' as const, 'only' as const);

/** One step of a history. Places are fractions of the device, so that every step fits every shape. */
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('write' as const, 'write' as const, 'write' as const, 'writeSync' as const),
      disk,
      at: unit,
      span: unit,
      fill: fc.constantFrom('random' as const, 'random' as const, 'random' as const, 'zeroes' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('discard' as const, 'writeZeroes' as const),
      disk,
      at: unit,
      span: unit,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('snapshot' as const), disk, isSync: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('group' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('share' as const), pick }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('start' as const),
      pick,
      base,
      changes,
      basePick: pick,
      concurrency: fc.integer({ min: 1, max: 8 }),
      attempts: fc.integer({ min: 1, max: 4 }),
      temper: fc.constantFrom(...tempers),
      isSwept: fc.boolean(),
      hasSignal: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('sweep' as const, 'sweep' as const, 'pause' as const, 'resume' as const),
      pick,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('ask' as const), pick, at: unit, span: unit }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('abort' as const),
      pick,
      by: fc.constantFrom('abort' as const, 'close' as const, 'signal' as const),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('release' as const),
      pick,
      call: fc.nat(15),
      how: fc.constantFrom('store' as const, 'store' as const, 'fail' as const),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('turns' as const), times: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('closeSnapshot' as const), pick }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('deviceFault' as const),
      disk,
      kind: fc.constantFrom('fail-before' as const, 'fail-after' as const, 'truncate' as const, 'delay' as const),
      skip: fc.nat(3),
      operation: fc.constantFrom(
        'read' as const,
        'read' as const,
        'read' as const,
        'write' as const,
        'extents' as const,
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('restart' as const, 'crash' as const),
      disk,
      blockSize: fc.constantFrom('same' as const, 'same' as const, 'same' as const, 'other' as const),
      growth: fc.constantFrom(0, 0, 0, 5000, -3000),
    }),
  },
);

export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;
/** The steps among which there are those of a name: one kind may have several names. */
export type StepOf<Name extends Step['do'], One extends Step = Step> = One extends { readonly do: infer Names }
  ? Name extends Names
    ? One
    : never
  : never;

/** Histories in which several runs of several instants meet. */
export const history = fc.array(step, { minLength: 5, maxLength: 70, size: 'max' });
