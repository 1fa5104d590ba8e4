import { expect, onTestFinished, test, vi } from 'vitest';
import { type Batch, BlockFeed } from '../../src/pipeline/block-feed.ts';
import { BlockStateMap } from '../../src/state/block-state-map.ts';

/** What the feed gives before it waits, or ends. Of those that wait from earlier calls one may take a part. */
async function takeAll(feed: BlockFeed, states: BlockStateMap): Promise<Batch[]> {
  const batches = waiting.get(feed) ?? [];
  waiting.set(feed, batches);
  const claim = (batch: Batch) => {
    for (const run of batch.runs) states.set(run, 'storing');
    batches.push(batch);
  };
  const idle = Promise.withResolvers<undefined>();
  while ((await Promise.race([feed.take(claim, () => idle.resolve(undefined)), idle.promise])) !== undefined);
  return batches.splice(0);
}

const waiting = new WeakMap<BlockFeed, Batch[]>();

const block = (firstBlock: number, blockCount = 1) => ({ firstBlock, blockCount });

test('scattered blocks share a batch, in order, and neighbours a run of it', async () => {
  const states = new BlockStateMap(100);
  const feed = new BlockFeed(states, 4);
  for (const each of [40, 7, 41, 90, 2]) states.set(each, 'preserved');
  feed.intercepted();
  feed.intercepted();
  expect(await takeAll(feed, states)).toEqual([
    { lane: 'intercepted', runs: [block(2), block(7), block(40, 2)], blockCount: 4 },
    { lane: 'intercepted', runs: [block(90)], blockCount: 1 },
  ]);
  states.set(block(3, 4), 'inherited');
  feed.sweep();
  const [first, ...rest] = await takeAll(feed, states);
  expect(first).toEqual({ lane: 'swept', runs: [block(0, 2), block(8, 2)], blockCount: 4 });
  expect(rest.reduce((sum, { blockCount }) => sum + blockCount, 4)).toBe(91);
  expect(feed.isExhausted).toBe(true);
});

test('a feed finds what was preserved before it was made, and after a comparison only what was preserved since', async () => {
  const states = new BlockStateMap(10);
  states.set(block(3, 2), 'preserved');
  const feed = new BlockFeed(states, 8);
  expect((await takeAll(feed, states)).map(({ runs }) => runs)).toEqual([[block(3, 2)]]);
  states.set(8, 'preserved');
  expect(await takeAll(feed, states)).toEqual([]);
  states.set(3, 'stored');
  states.set(9, 'inherited');
  feed.intercepted();
  expect((await takeAll(feed, states)).map(({ runs }) => runs)).toEqual([[block(8)]]);
});

test('a block that is preserved while others are given out is given out too, and none is twice', async () => {
  const states = new BlockStateMap(5000);
  const feed = new BlockFeed(states, 3);
  const given: number[] = [];
  const claim = ({ runs }: Batch) => {
    for (const run of runs) {
      states.set(run, 'storing');
      for (let each = run.firstBlock; each < run.firstBlock + run.blockCount; each++) given.push(each);
    }
  };
  for (let round = 0; round < 1000; round++) {
    for (const each of [round * 5, 4999 - round * 2]) if (states.get(each) === 'pending') states.set(each, 'preserved');
    feed.intercepted();
    if (states.counts.preserved > 2) await feed.take(claim, () => {}, 'intercepted');
  }
  while (states.counts.preserved > 0) await feed.take(claim, () => {}, 'intercepted');
  expect(new Set(given).size).toBe(given.length);
  expect(given.length).toBe(states.counts.storing);
  expect(given.length).toBeGreaterThan(1500);
});

test('comparisons that take long rest in between, so that they take a small share of the time', async () => {
  const states = new BlockStateMap(100);
  const clone = states.clone.bind(states);
  vi.spyOn(states, 'clone').mockImplementation(() => {
    for (const end = performance.now() + 4; performance.now() < end; );
    return clone();
  });
  const feed = new BlockFeed(states, 4);
  const claim = ({ runs }: Batch) => {
    for (const run of runs) states.set(run, 'storing');
  };
  const onIdle = vi.fn();
  const next = (each: number) => {
    states.set(each, 'preserved');
    feed.intercepted();
    return feed.take(claim, onIdle, 'intercepted');
  };
  expect((await next(7))?.runs).toEqual([block(7)]);
  const began = performance.now();
  const waiting = next(3);
  states.set(5, 'preserved');
  feed.intercepted();
  expect((await waiting)?.runs).toEqual([block(3), block(5)]);
  expect(performance.now() - began).toBeGreaterThan(40);
  expect(states.clone).toHaveBeenCalledTimes(2);
  expect(onIdle).not.toHaveBeenCalled();
  feed.end();
});

test('a process that was stopped for long during a comparison does not rest for long', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const states = new BlockStateMap(100);
  const clone = states.clone.bind(states);
  vi.spyOn(states, 'clone').mockImplementationOnce(() => {
    vi.advanceTimersByTime(3_600_000);
    return clone();
  });
  const feed = new BlockFeed(states, 4);
  const next = (each: number) => {
    states.set(each, 'preserved');
    feed.intercepted();
    const claim = ({ runs }: Batch) => {
      for (const run of runs) states.set(run, 'storing');
    };
    return feed.take(claim, () => {}, 'intercepted');
  };
  expect((await next(7))?.runs).toEqual([block(7)]);
  const waiting = next(3);
  await vi.advanceTimersByTimeAsync(2000);
  expect((await waiting)?.runs).toEqual([block(3)]);
});

test('hundreds of thousands of scattered pre-images are no trouble', async () => {
  const pieces = 300_000;
  const states = new BlockStateMap(pieces * 2);
  for (let each = 0; each < pieces * 2; each += 2) states.set(each, 'preserved');
  const feed = new BlockFeed(states, 256); // Threw a RangeError, of too many arguments.
  feed.intercepted();
  let count = 0;
  for (const { blockCount } of await takeAll(feed, states)) count += blockCount;
  expect(count).toBe(pieces);
});

test('a sweep passes over thousands of millions of blocks that need nothing as if there were none', async () => {
  const blockCount = 2 ** 32;
  const states = new BlockStateMap(blockCount);
  states.set(block(0, blockCount - 1), 'inherited');
  const feed = new BlockFeed(states, 256);
  feed.sweep();
  const batches = await takeAll(feed, states);
  expect(batches.map(({ runs }) => runs)).toEqual([[block(blockCount - 1)]]);
});
