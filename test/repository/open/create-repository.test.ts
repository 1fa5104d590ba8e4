import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { KEYS_PREFIX } from '../../../src/repository/format/object-keys.ts';
import type { CloudTarget } from '../../../src/targets/cloud-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { seededRandom } from '../../../src/testing/seeded-random.ts';
import { withCode } from '../../support/with-code.ts';
import { readMap, slotBody, withChecksum } from '../format/support/format-text.ts';
import { InterleavingTarget } from '../log/support/interleaving-target.ts';
import { openVolume, SMALL } from '../support/repositories.ts';
import {
  create,
  ENCRYPTED,
  KINDS,
  type Kind,
  OURS,
  objectsOf,
  open,
  openCreating,
  opened,
  PLAIN,
  ScriptedTarget,
  THEIRS,
} from './support/creations.ts';

async function requestsOfCreation(kind: Kind): Promise<number> {
  const counting = new ScriptedTarget(new MemoryTarget(), (_index, invoke) => invoke());
  await create(counting, kind);
  return counting.calls;
}

/** Whether it works: a backup, and everything whole, now and for the next one who opens it. */
async function works(target: CloudTarget, kind: Kind): Promise<void> {
  const { volume } = await openVolume(3);
  await using repository = await opened(target, kind);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  await using again = await opened(target, kind);
  expect((await again.latestBackup('disk'))?.id).toBe(id);
  expect(await again.verify({ depth: 'data' })).toMatchObject({ ok: true, damagedObjects: [], restored: [] });
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (BackupError.is(error)) return error.code;
    throw error;
  }
  return 'no error';
}

describe.each(KINDS)('$name: a creation', (kind) => {
  test.each(['before', 'after'])(
    'that dies at any of its requests, %s it took effect, is finished or replaced by the next one',
    async (when) => {
      const requests = await requestsOfCreation(kind);
      expect(requests).toBeGreaterThan(kind.singleWriter ? 4 : 30);
      for (let dies = 0; dies < requests; dies++) {
        const inner = new MemoryTarget();
        let isDead = false;
        const dying = new ScriptedTarget(inner, async (index, invoke) => {
          if (isDead || (index === dies && when === 'before')) {
            isDead = true;
            throw new Error('the process is gone');
          }
          const answer = await invoke();
          if (index !== dies) return answer;
          isDead = true;
          throw new Error('the process is gone');
        });
        await create(dying, kind).catch(() => {});
        const left = await objectsOf(inner);
        const { wasCreated, context } = await openCreating(inner, kind);
        expect(wasCreated, `request ${dies}`).toBe(!left.has('format'));
        // A slot that was stored is used and not left behind.
        const slots = [...(await objectsOf(inner)).keys()].filter((key) => key.startsWith(KEYS_PREFIX));
        expect(slots, `request ${dies}`).toHaveLength(kind.encryption === 'none' ? 0 : 1);
        context.keys.wipe();
        await works(inner, kind);
      }
    },
    60_000,
  );

  test.each(['fail-before', 'fail-after'] as const)(
    'survives one lost answer or 503 at any of its requests: %s',
    async (fault) => {
      const requests = await requestsOfCreation(kind);
      for (let struck = 0; struck < requests; struck++) {
        const inner = new MemoryTarget();
        const faulty = new ScriptedTarget(inner, async (index, invoke) => {
          if (index === struck && fault === 'fail-after') await invoke();
          if (index === struck) throw new BackupError('TARGET_UNAVAILABLE', 'busy', { retryable: true });
          return invoke();
        });
        await create(faulty, kind);
        await works(inner, kind);
      }
    },
    60_000,
  );

  test('gives up on what does not pass, with its error', async () => {
    const down = new ScriptedTarget(new MemoryTarget(), async () => {
      throw new BackupError('TARGET_UNAVAILABLE', 'down', { retryable: true });
    });
    await expect(create(down, kind)).rejects.toEqual(withCode('TARGET_UNAVAILABLE'));
    const refusing = new ScriptedTarget(new MemoryTarget(), async (_index, invoke, call) => {
      if (call?.operation === 'put' && !call.subject.startsWith('probe/')) {
        throw new BackupError('PERMISSION_DENIED', 'no');
      }
      return invoke();
    });
    await expect(create(refusing, kind)).rejects.toEqual(withCode('PERMISSION_DENIED'));
  });

  test.each(['log/ffffffffffffe', 'log/anything', 'packs/0000000000001/x'])(
    'is refused where there is an object %s without format',
    async (key) => {
      const target = new MemoryTarget();
      await target.put(key, Uint8Array.of(1));
      const before = await objectsOf(target);
      const failure = create(target, kind);
      await expect(failure).rejects.toMatchObject({
        code: 'REPOSITORY_EXISTS',
        message: expect.stringContaining(`${key.split('/')[0]}/ holds objects`),
      });
      expect(await codeOf(openCreating(target, kind))).toMatch(/^(REPOSITORY_CORRUPT|KEY_REQUIRED)$/);
      expect(await objectsOf(target)).toEqual(before);
    },
  );
});

describe('what a creation left that was cut short', () => {
  /** The slot that comes before `format`. */
  async function interrupted(kind: Kind): Promise<MemoryTarget> {
    const target = new MemoryTarget();
    await create(target, kind);
    await target.delete('format');
    return target;
  }

  test('holds no repository', async () => {
    const target = await interrupted(ENCRYPTED);
    await expect(opened(target, ENCRYPTED)).rejects.toEqual(withCode('REPOSITORY_NOT_FOUND'));
  });

  test('is finished with the secret that opens it: the same key, and the same repository', async () => {
    const target = await interrupted(ENCRYPTED);
    const [slot] = [...(await objectsOf(target)).keys()];
    const { context, wasCreated } = await openCreating(target, ENCRYPTED);
    expect(wasCreated).toBe(true);
    expect([...(await objectsOf(target)).keys()]).toEqual(['format', slot]);
    expect(`keys/${context.format.keySlot}`).toBe(slot);
    await works(target, ENCRYPTED);
  });

  const OTHERS: [string, Kind][] = [
    ['another secret', { encryption: THEIRS, singleWriter: false }],
    ['no encryption', PLAIN],
    ['another mode', { encryption: OURS, singleWriter: true }],
  ];
  test.each(OTHERS)('is left alone by a creation with %s, which makes a repository of its own', async (_how, kind) => {
    const target = await interrupted(ENCRYPTED);
    const [[key, bytes]] = [...(await objectsOf(target))] as [[string, Uint8Array]];
    expect((await openCreating(target, kind)).wasCreated).toBe(true);
    // Somebody may yet want it: nothing that this creation did not make is deleted.
    expect((await objectsOf(target)).get(key)).toEqual(bytes);
    await using repository = await opened(target, kind);
    const { volume } = await openVolume(3);
    await repository.backup(volume, { volume: 'disk' });
    if (kind.encryption === 'none') return;
    const slots = await repository.keys.list();
    const foreign = slots.filter(({ error }) => error !== undefined);
    expect(foreign).toMatchObject([{ id: key.slice(5), error: { code: 'KEY_SLOT_CORRUPT' } }]);
    expect(slots).toHaveLength(2);
    await repository.keys.remove(key.slice(5));
    await works(target, kind);
  });

  test.each(['damaged', 'of a newer program', 'too large'])('does not stand in the way where it is %s', async (how) => {
    const target = await interrupted(ENCRYPTED);
    const [[key, bytes]] = [...(await objectsOf(target))] as [[string, Uint8Array]];
    const newer = encodeMsgpack({ ...readMap(slotBody(bytes)), kind: 'smart card' });
    const replacements: Record<string, Uint8Array> = {
      damaged: bytes.subarray(1),
      'of a newer program': withChecksum('cow1 key slot', Buffer.concat([newer, new Uint8Array(32)])),
      'too large': new Uint8Array(100_000),
    };
    await target.put(key, Uint8Array.from(replacements[how] as Uint8Array));
    await openCreating(target, ENCRYPTED);
    await using repository = await opened(target, ENCRYPTED);
    expect((await repository.keys.list()).filter(({ error }) => error === undefined)).toHaveLength(1);
  });
});

describe('several hosts that create one repository at once', () => {
  test.each([
    ['with one secret', [OURS, OURS, OURS]],
    ['with a secret each', [OURS, THEIRS, { key: new Uint8Array(32).fill(5) }]],
    ['without encryption', ['none', 'none', 'none']],
    ['of whom one wants no encryption', [OURS, 'none', OURS]],
  ] as const)('make one, in any order of their requests: %s', { timeout: 60_000 }, async (_how, encryptions) => {
    for (let seed = 1; seed <= 40; seed++) {
      const target = new MemoryTarget();
      const interleaved = new InterleavingTarget(target, seededRandom(seed));
      const outcomes = await Promise.allSettled(
        encryptions.map((encryption) => openCreating(interleaved, { encryption, singleWriter: false })),
      );
      const contexts = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      const ids = contexts.map(({ context }) => Buffer.from(context.format.repositoryId).toString('hex'));
      expect(new Set(ids).size, `seed ${seed}`).toBe(1);
      expect(contexts.filter(({ wasCreated }) => wasCreated).length, `seed ${seed}`).toBeGreaterThanOrEqual(1);
      // Those whose secret it is got it; the others were told, and nobody's key is lost.
      for (const [index, outcome] of outcomes.entries()) {
        if (outcome.status === 'fulfilled') continue;
        expect(['KEY_REFUSED', 'KEY_REQUIRED', 'NOT_ENCRYPTED'], `seed ${seed}, host ${index}`).toContain(
          outcome.reason.code,
        );
      }
      const winner = contexts[0]?.context;
      const alike = encryptions.filter((encryption) => (encryption === 'none') !== winner?.format.encrypted);
      const isOneSecret = new Set(encryptions).size === 1;
      expect(contexts, `seed ${seed}`).toHaveLength(
        isOneSecret ? 3 : winner?.format.encrypted === false ? 1 : contexts.length,
      );
      expect(alike.length).toBeGreaterThan(0);
      const slots = [...(await objectsOf(target)).keys()].filter((key) => key.startsWith(KEYS_PREFIX));
      // Who lost took back the slot that it had stored.
      expect(slots, `seed ${seed}`).toHaveLength(winner?.format.encrypted === true ? 1 : 0);
    }
  });
});

test('a provider that can not unwrap what it wraps makes no repository', async () => {
  const target = new MemoryTarget();
  const wrap = async (key: Uint8Array) => key.map((byte) => byte ^ 0x55);
  const provider = { id: 'forgetful', wrap, unwrap: async () => new Uint8Array(32) };
  const creation = create(target, { encryption: { provider }, singleWriter: false });
  await expect(creation).rejects.toEqual(withCode('KEY_REFUSED'));
  expect(await objectsOf(target)).toEqual(new Map());
});

test('a provider that never answers is left when the signal aborts, and nothing is stored', async () => {
  const target = new MemoryTarget();
  const controller = new AbortController();
  const reason = new Error('enough');
  const provider = {
    id: 'silent',
    wrap: () => {
      controller.abort(reason);
      return new Promise<Uint8Array>(() => {});
    },
    unwrap: async () => new Uint8Array(32),
  };
  const { signal } = controller;
  const creation = BackupRepository.create(target, { encryption: { provider }, ...SMALL, signal });
  await expect(creation).rejects.toBe(reason);
  expect(await objectsOf(target)).toEqual(new Map());
});

test('a repository says whether it was just created', async () => {
  const target = new MemoryTarget();
  const options = { createIfMissing: { encryption: OURS }, ...SMALL };
  await using created = await BackupRepository.open(target, options);
  expect([created.wasCreated, created.encrypted]).toEqual([true, true]);
  await using again = await BackupRepository.open(target, options);
  expect([again.wasCreated, again.encrypted]).toEqual([false, true]);
  await using plain = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', ...SMALL });
  expect([plain.wasCreated, plain.encrypted]).toEqual([true, false]);
});

test('a repository for a single writer opens the second time as it did the first', async () => {
  const target = new MemoryTarget({ createOnly: false });
  const options = { createIfMissing: { encryption: 'none', singleWriter: true } } as const;
  expect((await open(target, options)).wasCreated).toBe(true);
  expect((await open(target, options)).wasCreated).toBe(false);
});

test('what is new opens with what it was made with, whatever would open the one that was expected', async () => {
  const target = new MemoryTarget();
  const options = { unlock: THEIRS, createIfMissing: { encryption: OURS } };
  expect((await open(target, options)).wasCreated).toBe(true);
  await expect(open(target, options)).rejects.toEqual(withCode('KEY_REFUSED'));
});
