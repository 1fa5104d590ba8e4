import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  dropSession,
  holdSession,
  livenessOf,
  ownerName,
  parseOwner,
  SessionClaim,
} from '../../../src/repository/backup/session-owner.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import type { Session } from '../../../src/repository/format/log-state.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { errorOf } from '../../volume/support/bytes.ts';
import { createIn, openIn, openVolume, SMALL } from '../support/repositories.ts';

const STATE = { seq: 6, hash: new Uint8Array(32), sessions: new Map() };
const REPOSITORY = new Uint8Array(16).fill(3);
const host = encodeURIComponent(hostname());
const isLinux = process.platform === 'linux';
const boot = isLinux ? readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim() : '';

const namespace = isLinux ? readlinkSync('/proc/self/ns/pid').replace(/\D/g, '') : '';

function startOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] as string;
}

function liveness(owner: string, self = ownerName(), seq = 7) {
  return livenessOf({ seq, hash: new Uint8Array(32), at: 0, owner, volumes: new Map(), adopted: [] }, REPOSITORY, self);
}

describe('an owner', () => {
  test('names host, process and incarnation, and is read back', () => {
    expect(parseOwner(ownerName())).toMatchObject({
      name: hostname(),
      isNamed: false,
      host: hostname(),
      processId: process.pid,
      start: isLinux ? `${boot}:${startOf(process.pid)}:${namespace}` : undefined,
    });
    expect(parseOwner(ownerName('backup of db/3'))).toMatchObject({
      name: 'backup of db/3',
      isNamed: true,
      host: hostname(),
    });
    expect(parseOwner('host')).toBeUndefined();
    expect(parseOwner('a/0/b/')).toBeUndefined();
    expect(parseOwner('%/4/b/')).toBeUndefined();
  });
});

describe('whether anybody holds a session', () => {
  let child: ChildProcess;
  beforeAll(() => {
    child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  });
  afterAll(() => {
    child.kill();
  });

  test('is known of this process', () => {
    const claim = new SessionClaim(ownerName(), REPOSITORY);
    const opened = claim.ownerOn(STATE);
    expect(liveness(opened)).toBe('own'); // Its entry may be on its way.
    holdSession(REPOSITORY, 7);
    claim.settle();
    expect(liveness(opened)).toBe('own');
    expect(liveness(opened, ownerName(), 8)).toBe('dead');
    dropSession(REPOSITORY, 7);
    expect(liveness(opened)).toBe('dead');
  });

  test('of a copy of this process is not taken for one that it left behind', () => {
    const claim = new SessionClaim(ownerName(), REPOSITORY);
    const lost = claim.ownerOn(STATE); // Another one has the number: with the same random numbers perhaps the same owner.
    const before = parseOwner(ownerName())!.incarnation;
    const own = claim.ownerOn({ ...STATE, seq: 8 });
    expect(liveness(own)).toBe('own');
    claim.settle();
    expect(liveness(own)).toBe('dead');
    expect(liveness(lost)).not.toBe('dead');
    expect(parseOwner(ownerName())!.incarnation).not.toBe(before); // From now on the two can be told apart.
    expect(liveness(own)).toBe('dead');
    // One whose outcome was never learned stays one's own, whatever is tried after it.
    const unlearned = new SessionClaim(ownerName(), REPOSITORY);
    const unknown = unlearned.ownerOn(STATE);
    unlearned.settle();
    new SessionClaim(ownerName(), REPOSITORY).ownerOn({ ...STATE, seq: 9 });
    expect(liveness(unknown)).toBe('dead');
  });

  test('is remembered of what is open or may come, and of some that have ended, in a process that runs for years', () => {
    const self = ownerName();
    const open = (seq: number, sessions: ReadonlyMap<number, Session> = new Map()) => {
      const claim = new SessionClaim(self, REPOSITORY);
      const owner = claim.ownerOn({ ...STATE, seq: seq - 1, sessions });
      claim.settle();
      return owner;
    };
    const left = open(10);
    const isOpen = new Map([
      [10, { seq: 10, hash: new Uint8Array(32), at: 0, owner: left, volumes: new Map(), adopted: [] }],
    ]);
    // The log has not come so far: it may be on its way.
    const unlearned = open(100_000, isOpen);
    const ended = Array.from({ length: 3_000 }, (_, index) => ({ seq: 11 + index, owner: open(11 + index, isOpen) }));
    const remembered = ended.filter(({ owner, seq }) => liveness(owner, ownerName(), seq) === 'dead');
    expect(remembered.length).toBeLessThan(1_100);
    expect(remembered.at(-1)).toBe(ended.at(-1));
    expect(liveness(left, ownerName(), 10)).toBe('dead');
    expect(liveness(unlearned, ownerName(), 100_000)).toBe('dead');
    // Where it has not shown up when the log has passed its number, it never will.
    for (let seq = 100_002; seq < 101_100; seq++) open(seq, isOpen);
    expect(liveness(unlearned, ownerName(), 100_000)).not.toBe('dead');
    expect(liveness(left, ownerName(), 10)).toBe('dead');
  });

  test('is known of processes of this host, and of no other', () => {
    const pid = child.pid as number;
    const start = isLinux ? `${boot}:${startOf(pid)}` : '';
    expect(liveness(`${host}/${pid}/0123456789abcdef/${start}`)).toBe('alive');
    expect(liveness(`${host}/${2 ** 30}/0123456789abcdef/`)).toBe('dead');
    expect(liveness(`another/${2 ** 30}/0123456789abcdef/`)).toBe('unknown');
    expect(liveness('a program of another kind')).toBe('unknown');
  });

  test.runIf(isLinux)(
    'programs of different names on one host name are told apart where they don’t see each other',
    () => {
      const gone = 999_999;
      const here = `${boot}:1:${namespace}`;
      const [elsewhere, afterBoot] = [`${boot}:1:1234`, `another-boot:1:${namespace}`];
      const ofA = (start: string) => `a/${gone}/0123456789abcdef/${start}/${host}`;
      expect(liveness(ofA(here), ownerName('b'))).toBe('dead');
      expect(liveness(ofA(elsewhere), ownerName('b'))).toBe('unknown');
      expect(liveness(ofA(afterBoot), ownerName('b'))).toBe('unknown');
      expect(liveness(ofA(elsewhere), ownerName())).toBe('unknown');
      expect(liveness(`${host}/${gone}/0123456789abcdef/${elsewhere}`, ownerName('b'))).toBe('unknown');
      expect(liveness(ofA(elsewhere), ownerName('a'))).toBe('dead');
      expect(liveness(`${host}/${gone}/0123456789abcdef/${elsewhere}`)).toBe('dead');
    },
  );

  test('a container that was killed and starts again has its own number: the session is dead', () => {
    expect(liveness(`${host}/${process.pid}/0123456789abcdef/`)).toBe('dead');
    if (isLinux) expect(liveness(`${host}/${process.pid}/0123456789abcdef/${boot}:1`)).toBe('dead');
  });

  test.runIf(isLinux)('a number that was used again is not the process that had it before', () => {
    const pid = child.pid as number;
    expect(liveness(`${host}/${pid}/0123456789abcdef/${boot}:1`)).toBe('dead');
    expect(liveness(`${host}/${pid}/0123456789abcdef/another-boot:${startOf(pid)}`)).toBe('dead');
  });

  test.runIf(isLinux)('another copy of this library in this very process is alive', () => {
    expect(liveness(`${host}/${process.pid}/0123456789abcdef/${boot}:${startOf(process.pid)}`)).toBe('alive');
  });

  test('a program that names itself is there once, wherever it runs', () => {
    const before = `db-3/4711/0123456789abcdef//another-pod`;
    expect(liveness(before, ownerName('db-3'))).toBe('dead');
    expect(liveness(before, ownerName('db-4'))).toBe('unknown');
    expect(liveness(before)).toBe('unknown');
    expect(liveness(`db-3/4711/0123456789abcdef/`, ownerName('db-3'))).toBe('unknown'); // A host of that name.
  });
});

describe('sessions of a repository', () => {
  test('are listed, with who holds them', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    expect(await Array.fromAsync(repository.listSessions())).toEqual([]);
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const reader = await BackupRepository.open(target, { readOnly: true, ...SMALL });
    expect(await Array.fromAsync(reader.listSessions())).toEqual([
      {
        seq: 1,
        owner: hostname(),
        host: hostname(),
        processId: process.pid,
        volumes: ['disk'],
        openedAt: expect.any(Date),
        liveness: 'own',
      },
    ]);
    await errorOf(reader.endSession(1), 'READ_ONLY');
    await job.close();
  });

  test('a volume that is busy names its holder, since when, and the way out', async () => {
    const target = new MemoryTarget();
    const repository = await BackupRepository.create(target, { encryption: 'none', owner: 'db-3', ...SMALL });
    const { volume } = await openVolume();
    await using _ = await repository.startBackup(volume, { volume: 'disk' });
    const other = await openIn(target);
    const error = await errorOf(other.startBackup(volume, { volume: 'disk' }), 'VOLUME_BUSY');
    expect(error.message).toMatch(
      /^a backup of volume "disk" is under way: session 1 of "db-3" \(process \d+ of host ".*"\), open since 2.*Z, 0 min ago\. Wait .* takeOver: true$/,
    );
  });

  test('one that is ended frees its volume, and its job can not commit', async () => {
    const target = new MemoryTarget();
    const repository = await createIn(target);
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const other = await openIn(target);
    await other.endSession(1);
    await errorOf(job.sweep().done, 'SESSION_ENDED');
    await errorOf(other.endSession(1), 'SESSION_ENDED');
    await expect(other.endSession(0)).rejects.toThrow(TypeError);
    await repository.backup(volume, { volume: 'disk' });
  });

  test('ending one of its own jobs cancels the job', async () => {
    const repository = await createIn(new MemoryTarget());
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    await repository.endSession(1);
    expect(job.status).toBe('cancelled');
    expect(volume.snapshots).toEqual([]);
    expect(await Array.fromAsync(repository.listSessions())).toEqual([]);
  });

  test('a call to end it that is aborted does not wait for its job, and is one rejection', async () => {
    const target = new MemoryTarget();
    const put = target.put.bind(target);
    const repository = await createIn(target);
    const { volume } = await openVolume();
    const job = await repository.startBackup(volume, { volume: 'disk' });
    const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    target.put = async (key, ...rest) => {
      if (key.startsWith('log/')) {
        asked.resolve(); // The job commits, and can't be cancelled before the store has answered.
        await answer.promise;
      }
      return put(key, ...rest);
    };
    const { done } = job.sweep();
    await asked.promise;
    const call = new AbortController();
    const ending = repository.endSession(1, { signal: call.signal });
    call.abort(new Error('enough'));
    await expect(ending).rejects.toThrow('enough');
    answer.resolve();
    await done;
  });

  test.each(['', 5, 'x'.repeat(513), '\ud800'])('a name that is none (%j) is refused', async (owner) => {
    await expect(
      BackupRepository.create(new MemoryTarget(), { encryption: 'none', owner: owner as string }),
    ).rejects.toThrow(TypeError);
  });
});
