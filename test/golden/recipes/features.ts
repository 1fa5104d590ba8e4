import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { checkpointKey } from '../../../src/repository/format/object-keys.ts';
import { formatText, readMap } from '../../repository/format/support/format-text.ts';
import { appendAsNewer } from '../../repository/log/support/newer-program.ts';
import { Disk, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';

/**
 * A newer program was here: it asks writers to know a feature, in `format`, in the log and in a checkpoint, and it uses fields
 * that nobody else knows. All of it can be read.
 */
export const features: Recipe = {
  name: 'v1-features',
  encryption: 'none',
  secrets: [],
  has: ['checkpoint with features', 'entry of type config', 'entry of type hold'],
  async write(store) {
    const { context, objects } = store;
    const { log, format, target } = context;
    const written = new Written();
    const disk = await Disk.open(store, 'disk', 3 * 4096);
    await disk.write(1);
    const id = await disk.backUp(written);
    await disk.volume.close();
    const body = { ...readMap(format.body), version: 2, features: ['descriptions'], description: 'description/1' };
    await objects.put('format', Uint8Array.from(formatText(encodeMsgpack(body))));
    const append = async (fields: Record<string, unknown>) => {
      const { state } = log;
      const copy = { format: encodeMsgpack(body) };
      await appendAsNewer({ target, logKey: undefined }, state, {
        what: '',
        fields: { ...fields, ...copy },
        stopsReaders: false,
      });
      await log.catchUp();
    };
    await log.catchUp();
    await append({ type: 'config', quarantine: [], release: [], features: ['descriptions'], describes: 5 });
    await objects.put(checkpointKey(log.state.seq), (await encodeCheckpoint(undefined, log.state))!);
    await append({ type: 'hold', backups: [Buffer.from(id, 'hex')], reason: null, until: 1_900_000_000_000 });
    written.refusesWriters = 'descriptions';
    return written;
  },
};
