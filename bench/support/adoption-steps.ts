/** What a backup finds in the packs of a dead session, each as large as a writer makes it, and one as large as a reader takes it. */
import { createHash } from 'node:crypto';
import { runInSteps } from '../../src/common/yield-to-event-loop.ts';
import { MemoryTarget } from '../../src/index.ts';
import { Adoption, costOfAdoption } from '../../src/repository/backup/adoption.ts';
import type { RepositoryContext } from '../../src/repository/context/repository-context.ts';
import { RepositoryKeys } from '../../src/repository/crypto/repository-keys.ts';
import { EMPTY_STATE } from '../../src/repository/format/log-state.ts';
import { packKey } from '../../src/repository/format/object-keys.ts';
import { type FooterRow, MAX_ROWS, packHead, sealingFooter } from '../../src/repository/format/pack-footer.ts';
import { RecordKind } from '../../src/repository/format/record.ts';
import { cleanly, type Step } from './longest-step.ts';
import { fillRandom } from './random.ts';

/** More contents than are remembered, so that the oldest are read again. */
const FULL_PACKS = 18;
const SMALL_PACKS = 5000;
/** Most rows that a writer gives a pack. */
const MOST_ROWS = 2 ** 16;
const ID_BYTES = 32;
const STORED_BYTES = 40;
const RAW_BYTES = 4096;

export async function adoption(anyStep: Step): Promise<void> {
  const step = cleanly(anyStep);
  for (const keys of [
    RepositoryKeys.plain(),
    RepositoryKeys.encrypted(new Uint8Array(32).fill(7), new Uint8Array(16)),
  ]) {
    const which = keys.footerKey === undefined ? '' : ', encrypted';
    const full = await packsOf(keys, FULL_PACKS, MOST_ROWS);
    await adopt(step, `adoption of ${FULL_PACKS} packs of ${MOST_ROWS} blocks${which}`, full);
    const largest = await packsOf(keys, 2, MAX_ROWS);
    await adopt(step, `adoption of 2 packs of ${MAX_ROWS} blocks${which}`, largest);
  }
  const plain = RepositoryKeys.plain();
  await adopt(step, `adoption of ${SMALL_PACKS} packs of a block`, await packsOf(plain, SMALL_PACKS, 1));
}

interface Packs {
  readonly context: RepositoryContext;
  /** Ids of all blocks, one after another. */
  readonly ids: Uint8Array;
}

async function adopt(step: Step, what: string, { context, ids }: Packs): Promise<void> {
  const signal = new AbortController().signal;
  await step(`${what}: cost`, () => costOfAdoption(context, [1], {}));
  const found = await step(`${what}: all footers`, async () => {
    const adoption = new Adoption(context, [1], signal);
    await adoption.prepare([]);
    return adoption;
  });
  const count = ids.length / ID_BYTES;
  await step(`${what}: a sweep of ${count} blocks`, async () => {
    // As a session looks for what it has read.
    for (let block = 0; block < count; block += 64) {
      const blocks = Array.from({ length: Math.min(64, count - block) }, (_, at) => block + at);
      await found.prepare(blocks);
      for (const each of blocks) found.find(ids.subarray(each * ID_BYTES, (each + 1) * ID_BYTES), RAW_BYTES);
      if (block % 1024 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  });
  if (found.warnings.length > 0) throw found.warnings[0];
}

/** Packs of session 1, of so many blocks each. */
async function packsOf(keys: RepositoryKeys, count: number, blocks: number): Promise<Packs> {
  const target = new MemoryTarget();
  const ids = new Uint8Array(count * blocks * ID_BYTES);
  fillRandom(ids);
  for (let pack = 0; pack < count; pack++) {
    const name = { session: 1, random: pack.toString(16).padStart(32, '0') };
    const body = new Uint8Array(packHead().length + blocks * STORED_BYTES);
    body.set(packHead());
    const rows = Array.from(
      { length: blocks },
      (_, n): FooterRow => ({
        kind: RecordKind.block,
        id: ids.subarray((pack * blocks + n) * ID_BYTES, (pack * blocks + n + 1) * ID_BYTES),
        offset: packHead().length + n * STORED_BYTES,
        ...{ storedLength: STORED_BYTES, codec: 1, rawLength: RAW_BYTES },
        hint: pack * blocks + n,
      }),
    );
    const bodySha256 = new Uint8Array(createHash('sha256').update(body).digest());
    const footer = await runInSteps(sealingFooter({ rows, bodyBytes: body.length, bodySha256 }, name, keys.footerKey));
    const bytes = new Uint8Array(body.length + footer.length);
    bytes.set(body);
    bytes.set(footer, body.length);
    await target.put(packKey(name), bytes);
  }
  return { context: { target, keys, log: { state: EMPTY_STATE } } as unknown as RepositoryContext, ids };
}
