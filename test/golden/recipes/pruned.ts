import { createHash } from 'node:crypto';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { Floor } from '../../../src/repository/format/log-entry.ts';
import { floorSeq, type LogState } from '../../../src/repository/format/log-state.ts';
import { checkpointKey, entryKey } from '../../../src/repository/format/object-keys.ts';
import { floorCheckpoint } from '../../../src/repository/log/log-source.ts';
import { Disk, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

/**
 * A log whose old entries were deleted, with an entry of that time that arrived late, and one that a process has created which
 * slept meanwhile.
 */
async function writePruned(store: Parameters<Recipe['write']>[0]): Promise<Written> {
  const { repository, objects, context } = store;
  const written = new Written();
  const disk = await Disk.open(store, 'disk', 4 * 4096);
  const old = new Map<string, Uint8Array<ArrayBuffer>>();
  for (let n = 0; n < 40; n++) {
    await disk.write(1);
    const id = await disk.backUp(written);
    if (n === 3)
      for await (const { key } of objects.list('log/')) old.set(key, Uint8Array.from(await objects.get(key)));
    if (n % 4 !== 0 && n < 36) await written.forget(repository, [id]);
  }
  await disk.volume.close();
  for (let n = 0; n < 3; n++) await repository.prune({ graceMs: 0, keepFencedMs: 0, reserveBytes: 0 });
  await context.log.catchUp();
  if (floorSeq(context.log.state) < 60) throw new Error('the log was not pruned');
  for (const key of [...old.keys()].slice(0, 2)) await objects.put(key, old.get(key) as Uint8Array<ArrayBuffer>);
  if ((await objects.stat(entryKey(20))) !== undefined) throw new Error('an old entry is there');
  return written;
}

/** The same with what late puts may leave beside the checkpoints: another one of the floor's number, and one that is cut off. */
async function writeWithLateCheckpoints(store: Parameters<Recipe['write']>[0]): Promise<Written> {
  const written = await writePruned(store);
  const { context, objects } = store;
  const { source, checkpoint, state } = context.log.reader;
  const ofFloor = (await floorCheckpoint(source, state.floor as Floor, {})) as LogState;
  let other: Uint8Array<ArrayBuffer>;
  let key: string;
  // Until its name comes before that of the floor's.
  for (let n = 1; ; n++) {
    const slot = n.toString(16).padStart(16, '0');
    other = (await encodeCheckpoint(source.logKey, {
      ...ofFloor,
      removedSlots: new Set([slot]),
    })) as Uint8Array<ArrayBuffer>;
    key = checkpointKey(ofFloor.seq, createHash('sha256').update(other).digest());
    if (key < checkpointKey(ofFloor.seq, (state.floor as Floor).sha256)) break;
  }
  await objects.put(key, other);
  await objects.put(checkpointKey(checkpoint, new Uint8Array(32)), other.slice(0, 100));
  return written;
}

const shared = { has: [], losesPast: true, write: writePruned } as const;

export const pruned: Recipe = {
  name: 'v1-pruned',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  ...shared,
};

export const prunedSingleWriter: Recipe = {
  name: 'v1-pruned-single-writer',
  mode: 'single-writer',
  encryption: 'none',
  secrets: [],
  ...shared,
  has: ['log that begins at a floor', 'checkpoint that is not what its name says'],
  write: writeWithLateCheckpoints,
};
