import { expect, test } from 'vitest';
import { type Batch, BlockFeed } from '../../../src/repository/backup/block-feed.ts';
import { BlockStateMap } from '../../../src/state/block-state-map.ts';

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
  for (const each of [40, 7, 41, 41, 90, 2]) feed.preserved(block(each)); // One is told of twice.
  expect(await takeAll(feed, states)).toEqual([
    { lane: 'intercepted', runs: [block(7), block(40, 2)], blockCount: 3 },
    { lane: 'intercepted', runs: [block(2), block(90)], blockCount: 2 },
  ]);
  states.set(block(3, 4), 'inherited');
  feed.sweep();
  const [first, ...rest] = await takeAll(feed, states);
  expect(first).toEqual({ lane: 'swept', runs: [block(0, 2), block(8, 2)], blockCount: 4 });
  expect(rest.reduce((sum, { blockCount }) => sum + blockCount, 4)).toBe(91);
  expect(feed.isExhausted).toBe(true);
});

test('a feed finds what was preserved before it was made, and what nobody told it of', async () => {
  const states = new BlockStateMap(10);
  states.set(block(3, 2), 'preserved');
  const feed = new BlockFeed(states, 8);
  expect((await takeAll(feed, states)).map(({ runs }) => runs)).toEqual([[block(3, 2)]]);
  states.set(8, 'preserved');
  expect(await takeAll(feed, states)).toEqual([]);
  feed.lookForPreserved();
  expect((await takeAll(feed, states)).map(({ runs }) => runs)).toEqual([[block(8)]]);
});

test('hundreds of thousands of scattered pre-images are no trouble: neither at the start nor one after the other', async () => {
  const pieces = 300_000;
  const states = new BlockStateMap(pieces * 2);
  for (let each = 0; each < pieces * 2; each += 2) states.set(each, 'preserved');
  const feed = new BlockFeed(states, 256); // Threw a RangeError, of too many arguments.
  for (let each = 0; each < pieces * 2; each += 2) feed.preserved(block(each));
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
