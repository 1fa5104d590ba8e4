import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { checkpointKey } from '../../../src/repository/format/object-keys.ts';
import type { PackName } from '../../../src/repository/format/record.ts';
import { Disk, type Store, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';

/**
 * A checkpoint with backups that are held, one of which has a pack in quarantine, and with a forgotten backup that an open session
 * has as its base.
 */
export const heldAndPinned: Recipe = {
  name: 'v1-held-and-pinned',
  encryption: 'none',
  secrets: [],
  has: [
    ...['hold', 'release', 'forget', 'config'].map((type) => `entry of type ${type}`),
    ...['pinned', 'a hold', 'sessions', 'quarantined'].map((state) => `checkpoint with ${state}`),
  ],
  async write(store) {
    const { context, repository } = store;
    const { log } = context;
    const written = new Written();
    const disk = await Disk.open(store, 'disk', 9 * 4096 + 5);
    await disk.write(1, 4, 8, 9);
    const first = await disk.backUp(written);
    await disk.write(2);
    const second = await disk.backUp(written);
    await disk.write(3);
    const third = await disk.backUp(written);
    await repository.hold([first, second], { reason: 'until the audit' });
    await repository.hold([third]);
    await repository.release([second, third]);
    await log.catchUp();
    // A host that has begun the next backup, and another one that forgets its base.
    await log.append(() => ({
      type: 'open',
      owner: 'golden/0/open',
      volumes: new Map([['disk', third]]),
      fence: [],
      adopt: [],
    }));
    await written.forget(repository, [third]);
    await log.catchUp();
    const [session, { packs }] = [...log.state.known][0]!;
    const pack: PackName = { session, random: [...packs.keys()][0] as string };
    await log.append(() => ({ type: 'config', quarantine: [pack], release: [] }));
    await storeCheckpoint(store);
    await repository.hold([second]);
    await disk.volume.close();
    return written;
  },
};

/** A checkpoint of the newest entry, much earlier than one would be due: so the log stays short. */
async function storeCheckpoint({ context, objects }: Store): Promise<void> {
  const { state, reader } = context.log;
  const bytes = await encodeCheckpoint(reader.source.logKey, state);
  if (bytes === undefined) throw new Error('this state has no checkpoint');
  await objects.put(checkpointKey(state.seq), bytes);
}
