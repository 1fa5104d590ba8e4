import { BackupError } from '../../../../src/common/errors.ts';
import type { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { seededFaults } from '../../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../../src/testing/faulty-target.ts';
import { seededRandom } from '../../../../src/testing/seeded-random.ts';
import { sourceOf } from '../../log/support/hosts.ts';
import { InterleavingTarget } from '../../log/support/interleaving-target.ts';
import { verifyLog } from '../../log/support/verify-log.ts';
import { BLOCK, openIn } from '../../support/repositories.ts';
import { attempt } from './attempt.ts';
import { Guest } from './guest.ts';
import { Ledger } from './ledger.ts';

const WRITERS = 3;
const TRIES = 6;
const VOLUME = 'the volume';
/** What one of several writers of a volume may be told. */
const REFUSED = ['VOLUME_BUSY', 'SESSION_FENCED', 'SESSION_ENDED', 'PARENT_CHANGED'];

/**
 * Hosts that all back up what they hold to be the same volume, and take it from each other. The log must be one line of
 * backups: each the only child of its parent.
 */
export async function fight(store: MemoryTarget, seed: number, hasFaults: boolean) {
  const random = seededRandom(seed);
  const interleaved = new InterleavingTarget(store, random);
  const ledger = new Ledger();
  let refused = 0;
  const work = async (host: number): Promise<void> => {
    const some = { 'fail-before': 0.02, 'fail-after': 0.02 };
    const rates = hasFaults ? { put: some, get: some } : {};
    const target = new FaultyTarget(interleaved, seededFaults({ seed: (seed + host) >>> 0, rates }));
    const guest = await Guest.open(VOLUME, 8 * BLOCK, seed + host);
    let opened = await attempt(() => openIn(target));
    while ('error' in opened) opened = await attempt(() => openIn(target));
    const repository = opened.value;
    for (let number = 0; number < TRIES; number++) {
      await guest.write({ at: random(), bytes: 5000, content: 'fresh' });
      const content = guest.copy();
      const takeOver = random() < 0.5;
      const started = await attempt(() => repository.startBackup(guest.volume, { volume: VOLUME, takeOver }));
      const outcome = 'value' in started ? await attempt(() => started.value.sweep().done) : started;
      const backup = { id: 'value' in started ? started.value.id : '', volume: VOLUME, content };
      if ('value' in outcome) ledger.commit(backup);
      else if (BackupError.is(outcome.error, 'COMMIT_UNKNOWN')) ledger.doubt(backup);
      else if (BackupError.is(outcome.error) && REFUSED.includes(outcome.error.code)) refused++;
      else if (!hasFaults) throw outcome.error;
    }
    await repository.close();
    await guest.volume.close();
  };
  await Promise.all(Array.from({ length: WRITERS }, (_, host) => work(host)));
  const repository = await openIn(store);
  await ledger.compare(repository);
  await ledger.read(repository);
  await repository.close();
  const { backups, heads } = await verifyLog(sourceOf(store));
  const line = new Set<string>();
  for (let at = heads.get(VOLUME)?.id; at !== undefined; at = backups.get(at)?.parent) line.add(at);
  if (line.size !== backups.size) throw new Error(`${backups.size} backups, of which ${line.size} follow each other`);
  return { committed: backups.size, refused };
}
