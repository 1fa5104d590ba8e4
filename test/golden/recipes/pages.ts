import { createHash } from 'node:crypto';
import { volumeSuffix } from '../../../src/repository/format/catalogue-pages.ts';
import { encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { CommittedPack } from '../../../src/repository/format/log-entry.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { RecordKind } from '../../../src/repository/format/record.ts';
import { keyOfCheckpoint } from '../../../src/repository/log/log-source.ts';
import { PAGE_LIMITS } from '../../../src/repository/log/pages/page-limits.ts';
import { pageOut } from '../../../src/repository/log/pages/page-out.ts';
import { PackWriter } from '../../../src/repository/packs/pack-writer.ts';
import { sealRecord } from '../../../src/repository/packs/record-sealing.ts';
import { randomBytes } from '../../support/randomness.ts';
import { Disk, type Store, text, Written } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY } from '../support/secrets.ts';

/**
 * Checkpoints whose rows lie in pages of the catalogue: of both levels and both tables, with rows that were changed since, with
 * forgotten backups of which the row went and the base of an open session stayed, and entries after them.
 */

const BLOCK = 4096;
/** Real pages have more than a hundred times as many rows, and would need as many backups. */
const LIMITS = { ...PAGE_LIMITS, rows: 7 };

type Ids = string[];
const ADOPTING = ['adopting 1', 'adopting 2', 'adopting 3'];

export const pages: Recipe = {
  name: 'v1-pages',
  encryption: { key: KEY },
  secrets: [{ key: Buffer.from(KEY).toString('hex') }],
  has: [
    ...['backups', 'packs'].flatMap((table) => [0, 1].map((level) => `page of ${table}, level ${level}`)),
    ...['pages', 'forgotten', 'holds', 'dead packs', 'goneThrough'].map((what) => `checkpoint with ${what}`),
    ...['forgotten head in a page', 'hold on a row of a page', 'release of a row of a page'],
    ...['pinned row of a page', 'pinned row that left its page', 'page that two checkpoints name'],
    'pack with two rows',
  ],
  async write(store) {
    const { repository, context } = store;
    const { log } = context;
    const written = new Written();
    const disks = new Map<string, Disk>();
    for (const name of ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta']) {
      disks.set(name, await Disk.open(store, name, 2 * BLOCK + 5));
    }
    const backUp = async (name: string) => {
      const disk = disks.get(name) as Disk;
      await disk.write(1);
      return disk.backUp(written);
    };
    /** A host that has begun the next backup, and another one that forgets its base. */
    const pinAndForget = async (volume: string, base: string) => {
      const owner = `golden/0/${volume}`;
      await log.append(() => ({ type: 'open', owner, volumes: new Map([[volume, base]]), fence: [], adopt: [] }));
      await written.forget(repository, [base]);
    };

    const [alpha, beta, gamma, delta, epsilon] = [[], [], [], [], []] as [Ids, Ids, Ids, Ids, Ids];
    for (let round = 0; round < 3; round++) {
      for (const [name, ids] of Object.entries({ alpha, beta, gamma, delta, epsilon })) ids.push(await backUp(name));
    }
    await repository.hold([delta[0]!, epsilon[1]!], { reason: 'in its row' });
    const shared = await AdoptedPacks.store(store);
    await shared.commit(written, 0, [0, 1]);
    await storePaged(store, false);

    // Rows go, but for what is known of the newest backup of a volume; and the base of an open session moves to the checkpoint.
    await written.forget(repository, [...beta, alpha[1]!]);
    await pinAndForget('gamma', gamma[2]!);
    await repository.prune({ graceMs: 0, repackBelow: 0 });
    await repository.prune({ graceMs: 0, repackBelow: 0 });
    await storePaged(store, true);

    // A page of newer rows, and changes of rows that are in other pages.
    await repository.release([delta[0]!]);
    await repository.hold([epsilon[0]!], { reason: 'newer than its page' });
    await repository.hold([gamma[0]!]);
    await written.forget(repository, [alpha[0]!, gamma[1]!]);
    await pinAndForget('delta', delta[2]!);
    await repository.prune({ repackBelow: 0 });
    await backUp('alpha');
    const last = await backUp('zeta');
    await shared.commit(written, 1, [0]);
    await storePaged(store, false);
    // One of its packs has rows in pages of both levels then, and the other one in a page and in the state; both go.
    await shared.commit(written, 2, [1]);
    await repository.prune({ repackBelow: 0 });
    await written.forget(repository, [last]);
    await backUp('alpha');
    await storePaged(store, false);

    await repository.hold([alpha[2]!], { reason: 'after the checkpoint' });
    await repository.release([epsilon[0]!, epsilon[1]!]);
    await written.forget(repository, [epsilon[0]!]);
    await backUp('epsilon');
    for (const disk of disks.values()) await disk.volume.close();
    return written;
  },
};

/** The same, where nothing is created atomically: log keys end in hashes, and pages and checkpoints are put. */
export const pagesOfSingleWriter: Recipe = {
  ...pages,
  name: 'v1-pages-single-writer',
  mode: 'single-writer',
  encryption: 'none',
  secrets: [],
};

/** A checkpoint of the newest entry, much earlier than one would be due, with all rows in pages. */
export async function storePaged({ context, objects }: Store, everything: boolean): Promise<LogState> {
  const { log } = context;
  await log.catchUp();
  const { state, reader } = log;
  const { logKey } = reader.source;
  const files: Parameters<typeof pageOut>[1] = {
    rows: (table, ref) => reader.pages.rows(table, ref),
    put: (ref, bytes) => reader.pages.put(ref, bytes, objects.capabilities.createOnly, {}),
  };
  const paged = await pageOut(state, files, { logKey, everything, limits: LIMITS });
  const bytes = await encodeCheckpoint(logKey, paged);
  if (bytes === undefined) throw new Error('this state has no checkpoint');
  await objects.put(keyOfCheckpoint(reader.source, state.seq, createHash('sha256').update(bytes).digest()), bytes);
  await reader.rebaseOn(paged);
  return paged;
}

/** Two packs of a session that died: sessions for three volumes adopt it, and their commits name the same packs. */
class AdoptedPacks {
  readonly #store: Store;
  readonly #packs: readonly CommittedPack[];
  /** By volume. */
  readonly #sessions: readonly number[];

  private constructor(store: Store, packs: readonly CommittedPack[], sessions: readonly number[]) {
    this.#store = store;
    this.#packs = packs;
    this.#sessions = sessions;
  }

  static async store(store: Store): Promise<AdoptedPacks> {
    const { context, random } = store;
    const { log, keys, target } = context;
    const open = async (volumes: readonly string[], fence: number[], adopt: number[]) => {
      const bases = new Map(volumes.map((volume) => [volume, undefined]));
      const owner = `golden/0/${volumes.join()}`;
      return (await log.append(() => ({ type: 'open', owner, volumes: bases, fence, adopt })))!.entry.seq;
    };
    const dead = await open(ADOPTING, [], []);
    const packs: CommittedPack[] = [];
    for (let n = 0; n < 2; n++) {
      const footerKey = keys.footerKey;
      const writer = new PackWriter({
        target,
        session: dead,
        footerKey,
        createOnly: target.capabilities.createOnly,
        packBytes: 1000,
        parallelPuts: 1,
      });
      const raw = text(random, BLOCK);
      const id = keys.contentId(raw);
      const { codec, bytes } = sealRecord(keys.recordKey, { kind: RecordKind.block, id }, raw);
      await writer.add({ kind: RecordKind.block, id, codec, rawLength: BLOCK, bytes, hint: 0 });
      await writer.flush();
      packs.push(...writer.stored.map((pack) => ({ ...pack, session: dead })));
    }
    const sessions: number[] = [];
    for (const [index, volume] of ADOPTING.entries())
      sessions.push(await open([volume], index === 0 ? [dead] : [], [dead]));
    return new AdoptedPacks(store, packs, sessions);
  }

  /** Backs up a volume of no bytes, and names some of the packs. */
  async commit(written: Written, index: number, packs: readonly number[]): Promise<void> {
    const { context } = this.#store;
    const volume = ADOPTING[index] as string;
    const id = randomBytes(12).toString('hex') + volumeSuffix(volume);
    const backup = {
      ...{ id, volume, parent: undefined, base: undefined, frozenAt: context.now(), trackingId: 'golden', point: 1 },
      descriptor: { size: 0, blockSize: BLOCK, root: undefined, runs: [], lost: [] },
      ...{ intact: true, metadata: {}, stats: { storedBytes: 0, changedBlocks: 0 } },
    };
    const session = this.#sessions[index] as number;
    const listed = packs.map((n) => this.#packs[n] as CommittedPack);
    await context.log.append(() => ({ type: 'commit', session, backups: [backup], packs: listed, packTables: [] }));
    written.note({ id, volume, size: 0, blockSize: BLOCK, metadata: {}, lost: [] }, new Uint8Array(0));
  }
}
