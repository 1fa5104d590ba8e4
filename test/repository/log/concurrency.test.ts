import { expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import type { LogState } from '../../../src/repository/format/log-state.ts';
import { openLog } from '../../../src/repository/log/open-log.ts';
import type { TargetOperation } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { type FaultPlan, seededFaults } from '../../../src/testing/faults.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { testSeed, times } from '../../support/randomness.ts';
import { counted, host, LOG_KEY, sourceOf } from './support/hosts.ts';
import { InterleavingTarget } from './support/interleaving-target.ts';
import { idsOf, runJob } from './support/jobs.ts';
import { verifyLog } from './support/verify-log.ts';

const HOSTS = 5;
const JOBS = 6;
const ROUNDS = times(3);

/** What each job was told. */
interface Told {
  readonly id: string;
  readonly volume: string;
  readonly outcome: 'success' | 'unknown' | 'failure';
}

/** `HOSTS` hosts do `JOBS` backups each; half of them share a volume and take it from each other. */
async function compete(
  seed: number,
  faults: boolean,
): Promise<{ told: Told[]; state: LogState; target: MemoryTarget }> {
  const random = seededRandom(seed);
  const target = new MemoryTarget();
  const interleaved = new InterleavingTarget(target, random);
  const told: Told[] = [];
  const work = async (number: number) => {
    const rates = { put: { 'fail-before': 0.1, 'fail-after': 0.1 }, get: { 'fail-before': 0.1 } };
    const plan: FaultPlan<TargetOperation> = faults
      ? seededFaults({ seed: seed + number, rates })
      : { next: () => undefined };
    const mine = counted(interleaved, plan);
    const volume = number % 2 === 0 ? 'shared' : `own-${number}`;
    let writer = await patiently(() => host(mine, { attempts: 6, random, logKey: LOG_KEY }));
    for (let job = 0; job < JOBS; job++) {
      let id: string | undefined;
      try {
        // Whoever is in the way is taken over: half-finished sessions of this host, and living ones of others.
        const inTheWay = [...writer.state.sessions.values()].filter((session) => session.volumes.has(volume));
        await runJob(writer, { volume, takeOver: inTheWay.map(({ seq }) => seq), onCommit: (each) => (id = each) });
        told.push({ id: id!, volume, outcome: 'success' });
      } catch (error) {
        expect(BackupError.is(error), String(error)).toBe(true);
        if (id !== undefined) {
          told.push({ id, volume, outcome: BackupError.is(error, 'COMMIT_UNKNOWN') ? 'unknown' : 'failure' });
        }
        // Some hosts start over from nothing, others go on.
        if (random() < 0.3) writer = await patiently(() => host(mine, { attempts: 6, random, logKey: LOG_KEY }));
      }
    }
  };
  await Promise.all(Array.from({ length: HOSTS }, (_, number) => work(number)));
  return { told, state: await verifyLog(sourceOf(target, { logKey: LOG_KEY })), target };
}

async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!BackupError.is(error) || !error.retryable) throw error;
    }
  }
}

test.each([
  ['a store that answers', false],
  ['a store that loses requests and answers', true],
])('hosts that compete, over %s: one chain, nothing lost, and what was told is true', async (_what, faults) => {
  const first = testSeed();
  let commits = 0;
  let contended = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const seed = (first + round) >>> 0;
    const { told, state, target } = await compete(seed, faults);
    const inLog = new Set(idsOf(state));
    const where = `seed ${seed}`;
    for (const { id, outcome } of told) {
      if (outcome === 'success') expect(inLog.has(id), `${where}: a success is in the log`).toBe(true);
      if (outcome === 'failure') expect(inLog.has(id), `${where}: a failure is not in the log`).toBe(false);
    }
    // No lost update: the backups of a volume are one line, and nobody knows of others.
    const known = told.filter(({ id }) => inLog.has(id)).map(({ id }) => id);
    expect(new Set(known), where).toEqual(inLog);
    for (const [volume, head] of state.heads) {
      const line: string[] = [];
      for (let at: string | undefined = head.id; at !== undefined; at = state.backups.get(at)?.parent) line.push(at);
      expect(line.length, where).toBe([...state.backups.values()].filter((each) => each.volume === volume).length);
    }
    expect({ ...(await openLog(sourceOf(target, { logKey: LOG_KEY }))).state }, where).toEqual({ ...state });
    commits += inLog.size;
    contended += told.filter(({ outcome }) => outcome !== 'success').length;
  }
  // Or else nothing was tried.
  expect(commits).toBeGreaterThan(ROUNDS * HOSTS);
  expect(contended).toBeGreaterThan(0);
});
