import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { checkpointKey } from '../../../src/repository/format/object-keys.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { NodeWriter } from '../../../src/repository/packs/node-writer.ts';
import { PackWriter } from '../../../src/repository/packs/pack-writer.ts';
import { Disk, type Store, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

const BLOCK = 4096;

/**
 * A group of volumes dies, and so does the next backup of one of them, which has adopted it. What they have uploaded is in two
 * committed backups, one of each volume; a checkpoint between them has the group with the volume that is left. In the end there is
 * a session that nobody has adopted yet.
 */
export const adopted: Recipe = {
  name: 'v1-adopted',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: ['fence', 'adoption', 'entry of type open', 'entry of type commit', 'checkpoint with fenced'],
  async write(store) {
    const written = new Written();
    const one = await Disk.open(store, 'one', 30 * BLOCK + 9);
    const two = await Disk.open(store, 'two', 12 * BLOCK);
    await one.write(...Array(31).keys());
    await two.write(...Array(12).keys());
    await dieAfter(store, [one, two], 8);
    await dieAfter(store, [one], 16);
    await fenceAll(store);
    await backUp(written, one);
    await storeCheckpoint(store);
    await backUp(written, two);
    await one.write(3, 4);
    await dieAfter(store, [one], 5);
    await fenceAll(store);
    for (const disk of [one, two]) await disk.volume.close();
    return written;

    async function backUp(to: Written, disk: Disk): Promise<void> {
      const { id, adoptedBytes } = await store.repository.backup(disk.volume, { volume: disk.name });
      if (adoptedBytes === 0) throw new Error('nothing was adopted');
      disk.noteBackup(to, id);
    }
  },
};

/** A session that stores the first blocks of volumes, and then nothing more. */
async function dieAfter({ context, objects }: Store, disks: readonly Disk[], blocks: number): Promise<void> {
  const { log, keys } = context;
  await log.catchUp();
  const volumes = new Map(disks.map(({ name }) => [name, undefined] as const));
  const owner = 'golden/0/dead';
  const opened = await log.append((state) =>
    decideOpen(state, { owner, volumes, takeOver: [...state.sessions.keys()] }),
  );
  const packs = new PackWriter({
    target: objects,
    session: opened!.entry.seq,
    footerKey: keys.footerKey,
    packBytes: 64 * 1024,
    parallelPuts: 1,
    createOnly: true,
  });
  const writer = new NodeWriter(keys, packs);
  for (const { device } of disks) {
    for (let block = 0; block < blocks; block++) {
      const raw = device.bytes.slice(block * BLOCK, (block + 1) * BLOCK);
      await writer.write(RecordKind.block, keys.contentId(raw), raw, block);
    }
  }
  await packs.flush();
}

/** A pruner finds them silent. */
async function fenceAll({ context: { log } }: Store): Promise<void> {
  const nothing = { session: undefined, newPacks: [], packs: [], sessions: [], relocate: [] } as const;
  const rest = { gonePacks: [], goneSessions: [], redated: [] } as const;
  await log.append(({ sessions }) => ({ type: 'collect', ...nothing, ...rest, fence: [...sessions.keys()] }));
}

/** A checkpoint of the newest entry, much earlier than one would be due: so the log stays short. */
async function storeCheckpoint({ context: { log }, objects }: Store): Promise<void> {
  const state = await log.catchUp();
  const bytes = await encodeCheckpoint(log.reader.source.logKey, state);
  if (bytes === undefined) throw new Error('this state has no checkpoint');
  await objects.put(checkpointKey(state.seq), bytes);
}
