import { describe, expect, test } from 'vitest';
import type { RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { decideAbort, decideOpen } from '../../../src/repository/log/entries/sessions.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import type { VerifyOptions } from '../../../src/repository/verify/verify-options.ts';
import type {
  CloudTarget,
  Leftovers,
  RemoveLeftoversOptions,
  TargetCapabilities,
} from '../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { createIn, openVolume } from '../support/repositories.ts';
import { Backups, freshBlock, openHost, packsOf, secrets, totalOf } from './support/repository.ts';

const AT_ONCE: PruneOptions = { graceMs: 0, repackBelow: 0 };

/** A store in which killed writers have left something, and that may keep versions. */
class PeculiarTarget extends ForwardingTarget {
  left = { count: 3, bytes: 700 };
  isVersioned = false;
  readonly asked: RemoveLeftoversOptions[] = [];
  readonly #inner: CloudTarget;

  constructor(inner: CloudTarget) {
    super(Object.assign(inner, { removeLeftovers: async () => ({ count: 0, bytes: 0 }) }), 'this PeculiarTarget');
    this.#inner = inner;
  }

  override get capabilities(): TargetCapabilities {
    return { ...this.#inner.capabilities, versioned: this.isVersioned };
  }

  protected override async forwardRemoveLeftovers(options: RemoveLeftoversOptions): Promise<Leftovers> {
    this.asked.push(options);
    const { left } = this;
    if (options.dryRun !== true) this.left = { count: 0, bytes: 0 };
    return left;
  }
}

async function opened(context: RepositoryContext, volume: string): Promise<number> {
  const plan = { owner: context.owner, volumes: new Map([[volume, undefined]]) };
  return (await context.log.append((state) => decideOpen(state, plan)))!.entry.seq;
}

describe('what a prune reports', () => {
  test('counts what killed writers left outside of objects, and removes it before anything else', async () => {
    const target = new PeculiarTarget(new MemoryTarget());
    const context = await openHost(target, secrets(false));
    const reported = { leftoverCount: 3, leftoverBytes: 700, freedBytes: 700 };
    expect(await prune(context, { ...AT_ONCE, dryRun: true })).toMatchObject(reported);
    expect(target.asked.map(({ dryRun }) => dryRun)).toEqual([true]);
    expect(await prune(context, AT_ONCE)).toMatchObject(reported);
    expect(await prune(context, AT_ONCE)).toMatchObject({ leftoverCount: 0, leftoverBytes: 0, freedBytes: 0 });
  });

  test('does not call freed what the store keeps as versions', async () => {
    const target = new PeculiarTarget(new MemoryTarget());
    target.isVersioned = true;
    const context = await openHost(target, secrets(false));
    const id = await new Backups().store(context, Array.from({ length: 20 }, freshBlock));
    await forgetBackups(context, [id]);
    const bytes = totalOf(await packsOf(target));
    expect(await prune(context, AT_ONCE)).toMatchObject({ freedBytes: 700, keptAsVersionsBytes: bytes });
    expect((await packsOf(target)).size).toBe(0);
  });

  test('names uploads that no backup refers to, by session', async () => {
    const target = new MemoryTarget();
    const context = await openHost(target, secrets(false));
    await new Backups().store(context, Array.from({ length: 20 }, freshBlock));
    const [open, fenced, aborted] = [
      await opened(context, 'a'),
      await opened(context, 'b'),
      await opened(context, 'c'),
    ];
    for (const [session, bytes] of [
      [open, 10],
      [fenced, 200],
      [aborted, 3000],
    ] as const) {
      await target.put(packKey({ session, random: 'ab'.repeat(16) }), new Uint8Array(bytes));
    }
    await target.put(packKey({ session: open, random: 'cd'.repeat(16) }), new Uint8Array(5));
    await context.log.append((state) => decideAbort(state, aborted));
    const nothing = { session: undefined, newPacks: [], packs: [], sessions: [], relocate: [], gonePacks: [] };
    await context.log.append(() => ({ type: 'collect', ...nothing, fence: [fenced], goneSessions: [], redated: [] }));
    const { unreferenced } = await prune(context, { ...AT_ONCE, dryRun: true });
    expect(unreferenced).toEqual({
      packs: 4,
      bytes: 3215,
      sessions: [
        { session: aborted, owner: undefined, state: 'ended', packs: 1, bytes: 3000 },
        { session: fenced, owner: 'host', state: 'fenced', packs: 1, bytes: 200 },
        { session: open, owner: 'host', state: 'open', packs: 2, bytes: 15 },
      ],
    });
    // The uploads of an aborted session are deleted at once; those of the others are kept for hosts that may come back.
    expect(await prune(context, AT_ONCE)).toMatchObject({ freedBytes: 3000 });
    expect((await prune(context, AT_ONCE)).unreferenced).toMatchObject({ packs: 3, bytes: 215 });
  });
});

test('verify reports uploads that no backup refers to, and refuses unknown options', async () => {
  const target = new MemoryTarget();
  await using repository = await createIn(target, true);
  const { volume } = await openVolume(8);
  await repository.backup(volume, { volume: 'a' });
  expect((await repository.verify({ depth: 'structure' })).unreferenced).toEqual({ packs: 0, bytes: 0, sessions: [] });
  await target.put(packKey({ session: 1, random: 'ab'.repeat(16) }), new Uint8Array(77));
  const { ok, unreferenced } = await repository.verify({ depth: 'data' });
  expect(ok).toBe(true);
  const sessions = [{ session: 1, owner: undefined, state: 'ended', packs: 1, bytes: 77 }];
  expect(unreferenced).toEqual({ packs: 1, bytes: 77, sessions });
  const call = (options: unknown) => repository.verify(options as VerifyOptions);
  await expect(call({ depth: 'data', fractoin: 0.1 })).rejects.toThrow('did you mean fraction?');
  for (const options of [undefined, {}, { depth: 'data', quarantine: 1 }, { depth: 'data', backups: 'x' }]) {
    await expect(call(options)).rejects.toThrow(TypeError);
  }
  await expect(call({ depth: 'data', budget: { downloadBytes: 1 } })).rejects.toEqual(withCode('BUDGET_EXCEEDED'));
});

describe('options of a prune', () => {
  test('that are unknown or malformed are refused before anything happens', async () => {
    await using repository = await createIn(new MemoryTarget());
    const call = (options: unknown) => repository.prune(options as PruneOptions);
    await expect(call({ dryrun: true })).rejects.toThrow('did you mean dryRun?');
    const malformed = [
      { graceMS: 0 },
      { dryRun: 'yes' },
      { checkLocks: 0 },
      { graceMs: -1 },
      { graceMs: '0' },
      { reserveBytes: 0.5 },
      { repackBelow: 2 },
      { signal: {} },
      { onProgress: 1 },
      { budget: { put: 3 } },
      { budget: 7 },
      new Map([['dryRun', true]]),
      'dryRun',
    ];
    for (const options of malformed) await expect(call(options), JSON.stringify(options)).rejects.toThrow(TypeError);
    await expect(repository.forget([], { signl: undefined } as object)).rejects.toThrow('did you mean signal?');
    await expect(repository.prune({ budget: { puts: 0 }, reserveBytes: 0 })).resolves.toMatchObject({ freedBytes: 0 });
  });
});

test('the event loop turns while a hundred thousand packs are listed, judged and deleted at once', async () => {
  const target = new MemoryTarget();
  const context = await openHost(target, secrets(false));
  const session = await opened(context, 'a');
  for (let n = 0; n < 100_000; n++) {
    await target.put(packKey({ session, random: n.toString(16).padStart(32, '0') }), new Uint8Array(1));
  }
  await context.log.append((state) => decideAbort(state, session));
  let turns = 0;
  let isOver = false;
  const turn = () => {
    turns++;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  const { freedBytes } = await prune(context, AT_ONCE);
  isOver = true;
  expect(freedBytes).toBe(100_000);
  expect(turns).toBeGreaterThan(2); // How many depends on how fast the machine is.
});
