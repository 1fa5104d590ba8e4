import { describe, expect, test } from 'vitest';
import { openMap, type RepositoryContext } from '../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { prune } from '../../../src/repository/prune/prune.ts';
import type { PruneOptions } from '../../../src/repository/prune/prune-options.ts';
import { forgetBackups } from '../../../src/repository/retention/forget.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { scriptedFaults } from '../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../src/testing/faulty-target.ts';
import { Backups, BLOCK, type Content, freshBlock, openHost, packsOf, secrets, totalOf } from './support/repository.ts';

const REPACK: PruneOptions = { graceMs: 0, minRepackGainBytes: 0, packBytes: 60_000 };

const volume = (blocks: number): Content => Array.from({ length: blocks }, freshBlock);

const changed = (content: Content, isChanged: (block: number) => boolean): Content =>
  content.map((bytes, block) => (isChanged(block) ? freshBlock() : bytes));

/** A backup of which `kept` says what a second one, the only one that is left, still needs. */
async function sparse(context: RepositoryContext, backups: Backups, kept: (block: number) => boolean, blocks = 120) {
  const content = volume(blocks);
  const first = await backups.store(context, content);
  const next = changed(content, (block) => !kept(block));
  await backups.store(context, next);
  await forgetBackups(context, [first]);
  return next;
}

/** What live maps need, in bytes of blocks. */
const liveBytes = (context: RepositoryContext, backups: Backups) =>
  new Set([...context.log.state.backups.keys()].flatMap((id) => backups.contents.get(id) ?? [])).size * BLOCK;

describe.each([{ isEncrypted: false }, { isEncrypted: true }])(
  'repacking, encrypted: $isEncrypted',
  ({ isEncrypted }) => {
    test('frees what sparse packs hold for nobody', async () => {
      const target = new MemoryTarget();
      const context = await openHost(target, secrets(isEncrypted));
      const backups = new Backups();
      await sparse(context, backups, (block) => block % 4 === 0);
      await prune(context, { ...REPACK, repackBelow: 0 });
      const before = totalOf(await packsOf(target));
      const result = await prune(context, REPACK);
      expect(result.repackedPacks).toBeGreaterThan(5);
      expect(result.repackedBytes).toBeLessThan(result.condemnedBytes / 2);
      const after = totalOf(await packsOf(target));
      expect(before - after).toBeGreaterThan(0.6 * 120 * BLOCK);
      expect(after).toBeLessThan(1.25 * liveBytes(context, backups));
      await backups.check(context);
      const { seq } = context.log.state;
      expect(await prune(context, REPACK)).toMatchObject({ repackedPacks: 0, condemnedBytes: 0 });
      expect(context.log.state.seq).toBe(seq + 1); // What was deleted is gone, and nothing else.
    });

    test('keeps the packs of its tables, also where nothing else lies in them', async () => {
      const target = new MemoryTarget();
      const context = await openHost(target, secrets(isEncrypted));
      const backups = new Backups();
      await sparse(context, backups, (block) => block % 4 === 0);
      expect((await prune(context, { ...REPACK, packBytes: 4096 })).repackedPacks).toBeGreaterThan(5); // A record a pack.
      const { seq } = context.log.state;
      expect(await prune(context, REPACK)).toMatchObject({ condemnedBytes: 0, freedBytes: 0 });
      expect(context.log.state.seq).toBe(seq + 1);
      await backups.check(context);
    });

    test('moves what was moved before straight to its newest place', async () => {
      const target = new MemoryTarget();
      const context = await openHost(target, secrets(isEncrypted));
      const backups = new Backups();
      let content = await sparse(context, backups, (block) => block % 3 === 0);
      let moves = 0;
      for (let round = 2; round < 6; round++) {
        moves += (await prune(context, { ...REPACK, repackBelow: 0.6 })).repackedPacks > 0 ? 1 : 0;
        await backups.check(context);
        const ids = [...context.log.state.backups.keys()];
        content = changed(content, (block) => block % 3 === 0 && (block / 3) % round === 0);
        await backups.store(context, content);
        await forgetBackups(context, ids);
        await prune(context, { ...REPACK, repackBelow: 0 });
        await backups.check(context);
      }
      expect(moves).toBeGreaterThan(2);
      // One look is enough: no table leads to a pack that has a table.
      const { relocations, known } = context.log.state;
      expect(relocations.size).toBeGreaterThan(0);
      for (const { location } of relocations.values()) {
        expect(known.get(location.pack.session)?.packs.has(location.pack.random)).toBe(true);
      }
      expect(totalOf(await packsOf(target))).toBeLessThan(2.2 * liveBytes(context, backups));
    });
  },
);

describe('repacking', () => {
  async function repository(isEncrypted = true) {
    const target = new MemoryTarget();
    const secret = secrets(isEncrypted);
    const context = await openHost(target, secret);
    return { target, secret, context, backups: new Backups() };
  }

  test('forgets where things were once nobody asks for them there', async () => {
    const { context, backups } = await repository();
    const kept = await sparse(context, backups, (block) => block % 4 === 0, 60);
    const going = await backups.store(context, volume(8), { volume: 'going' });
    const next = await backups.store(context, [...volume(7), backups.contents.get(going)![7]], { volume: 'going' });
    await forgetBackups(context, [going]);
    await prune(context, { ...REPACK, packBytes: 2 ** 20 });
    // What both need stands in one pack now, with the tables of all packs that were moved.
    const into = new Set([...context.log.state.relocations.values()].map(({ location }) => packKey(location.pack)));
    expect(into.size).toBe(1);
    const moved = context.log.state.relocations.size;
    await forgetBackups(context, [next]);
    const ids = [...context.log.state.backups.keys()];
    await backups.store(
      context,
      changed(kept, (block) => block % 8 !== 0),
    );
    await forgetBackups(context, ids);
    expect((await prune(context, { ...REPACK, repackBelow: 0.7 })).repackedPacks).toBeGreaterThan(0);
    const needless = context.log.state.relocations.size;
    await prune(context, { ...REPACK, repackBelow: 0 });
    expect(context.log.state.relocations.size).toBeLessThan(Math.min(needless, moved));
    expect(context.log.state.relocations.size).toBeGreaterThan(0);
    await backups.check(context);
  });

  test('does not begin for little, and moves no more than it may', async () => {
    const { context, backups } = await repository();
    await sparse(context, backups, (block) => block % 4 === 0);
    expect(await prune(context, { ...REPACK, minRepackGainBytes: 2 ** 23 })).toMatchObject({ repackedPacks: 0 });
    expect(await prune(context, { ...REPACK, maxRepackBytes: 0 })).toMatchObject({ repackedPacks: 0 });
    const some = await prune(context, { ...REPACK, maxRepackBytes: 50_000 });
    expect(some.repackedBytes).toBeGreaterThan(0);
    expect(some.repackedBytes).toBeLessThanOrEqual(50_000);
    expect((await prune(context, REPACK)).repackedBytes).toBeGreaterThan(0);
    await backups.check(context);
  });

  test('counts what many versions of a leaf name in common once', async () => {
    const { context, backups } = await repository();
    let content = await sparse(context, backups, (block) => block % 4 === 0);
    for (let version = 0; version < 12; version++) {
      content = changed(content, (block) => block % 4 === 1);
      await backups.store(context, content);
    }
    const roots = [...context.log.state.backups.values()].map(({ descriptor }) =>
      packKey(descriptor.root!.location.pack),
    );
    expect(new Set(roots).size).toBeGreaterThan(4); // Runs alone would not show it.
    expect((await prune(context, REPACK)).repackedPacks).toBeGreaterThan(5);
    await backups.check(context);
  });

  test('leaves a pack alone if more of it is needed than the marking estimated', async () => {
    const { context, backups } = await repository();
    const content = volume(120);
    const first = await backups.store(context, content);
    const packs = [...context.log.state.known.keys()].length;
    await backups.store(
      context,
      changed(content, (block) => block % 8 < 4),
    );
    // Another branch: the two versions of each leaf need different halves of the same packs.
    await backups.store(
      context,
      changed(content, (block) => block % 8 >= 4),
      { base: first },
    );
    await forgetBackups(context, [first]);
    const before = [...context.log.state.known.get(1)!.packs.keys()];
    await prune(context, { ...REPACK, repackBelow: 0.6 });
    expect(packs).toBe(1);
    const left = before.filter((random) => context.log.state.known.get(1)!.packs.has(random));
    expect(left.length).toBeGreaterThan(before.length - 3); // One holds the first backup's map.
    expect(context.log.state.sessions.size).toBe(0);
    await backups.check(context);
  });

  test('merges small packs once there are many', async () => {
    const { target, context, backups } = await repository();
    let content = volume(66);
    await backups.store(context, content, { packBytes: 2 ** 21 });
    for (let incremental = 0; incremental < 30; incremental++) {
      content = changed(content, (block) => block === incremental);
      await backups.store(context, content);
    }
    expect(await prune(context, { ...REPACK, repackBelow: 0.01 })).toMatchObject({ repackedPacks: 0 });
    for (let incremental = 30; incremental < 66; incremental++) {
      content = changed(content, (block) => block === incremental);
      await backups.store(context, content);
    }
    const before = (await packsOf(target)).size;
    const { repackedPacks } = await prune(context, { ...REPACK, packBytes: 2 ** 21, repackBelow: 0.01 });
    expect(repackedPacks).toBeGreaterThanOrEqual(64);
    expect((await packsOf(target)).size).toBeLessThan(before - 60);
    await backups.check(context);
    expect(await prune(context, { ...REPACK, packBytes: 2 ** 21, repackBelow: 0.01 })).toMatchObject({
      repackedPacks: 0,
    });
  });

  test('leaves a damaged pack where it is, and moves the others', async () => {
    const { target, context, backups } = await repository();
    const content = await sparse(context, backups, (block) => block % 4 === 0);
    await prune(context, { ...REPACK, repackBelow: 0 });
    const [backup] = [...context.log.state.backups.values()];
    const [entry] = (await openMap(context, backup!.descriptor).lookup(0, 1)).entries;
    const key = packKey(entry!.location.pack);
    const body = Uint8Array.from(await target.get(key));
    body[entry!.location.offset + 20]! ^= 1;
    await target.put(key, body);
    const result = await prune(context, REPACK);
    expect(result.repackedPacks).toBeGreaterThan(3);
    expect(result.repackError).toBeUndefined();
    expect((await packsOf(target)).has(key)).toBe(true);
    // Whole again, everything is there.
    body[entry!.location.offset + 20]! ^= 1;
    await target.put(key, body);
    await backups.check(context);
    expect(content.length).toBe(120);
  });

  test('leaves a pack alone that is suspected to be damaged', async () => {
    const { context, backups } = await repository();
    await sparse(context, backups, (block) => block % 4 === 0);
    await prune(context, { ...REPACK, repackBelow: 0 });
    const quarantine = [...context.log.state.known.get(1)!.packs.keys()].map((random) => ({ session: 1, random }));
    await context.log.append(() => ({ type: 'config', quarantine, release: [] }));
    expect(await prune(context, REPACK)).toMatchObject({ repackedPacks: 0 });
    await context.log.append(() => ({ type: 'config', quarantine: [], release: quarantine.slice(0, 3) }));
    expect(await prune(context, REPACK)).toMatchObject({ repackedPacks: 3 });
    await backups.check(context);
  });

  test('gives its session up when nothing is left to be moved', async () => {
    const { target, context, backups } = await repository();
    await sparse(context, backups, (block) => block % 4 === 0);
    await prune(context, { ...REPACK, repackBelow: 0 });
    const whole = new Map<string, Uint8Array<ArrayBuffer>>();
    for (const [key, size] of await packsOf(target)) {
      const body = Uint8Array.from(await target.get(key));
      whole.set(key, body.slice());
      body[size - 40]! ^= 1; // Its footer.
      await target.put(key, body);
    }
    expect(await prune(context, REPACK)).toMatchObject({ repackedPacks: 0, condemnedBytes: 0, repackError: undefined });
    expect(context.log.state.sessions.size).toBe(0);
    for (const [key, body] of whole) await target.put(key, body);
    expect((await prune(context, REPACK)).repackedPacks).toBeGreaterThan(5);
    await backups.check(context);
  });

  test('does not keep the rest from being freed when a map is damaged where it has to look', async () => {
    const { target, secret, context, backups } = await repository();
    await sparse(context, backups, (block) => block < 60 && block % 4 === 0);
    const [backup] = [...context.log.state.backups.values()];
    const refs = openMap(context, backup!.descriptor).tree.leafRefs(0, 4);
    const { location } = (await refs.next()).value!.ref;
    const key = packKey(location.pack);
    const body = Uint8Array.from(await target.get(key));
    body[location.offset + 20]! ^= 1;
    await target.put(key, body);
    const host = await openHost(target, secret);
    const result = await prune(host, REPACK);
    expect(result).toMatchObject({ repackedPacks: 0, repackError: { code: 'RECORD_CORRUPT' } });
    expect(result.freedBytes).toBeGreaterThan(0);
    expect(host.log.state.sessions.size).toBe(0);
  });

  test('never stores what a request garbled', async () => {
    const { target, secret, context: writer, backups } = await repository(false);
    await sparse(writer, backups, (block) => block % 4 === 0);
    for (let nth = 1; nth < 60; nth += 3) {
      const rules = [
        { operation: 'get', subject: /^packs/, nth, fault: { kind: 'corrupt', bit: 70_000 + nth } },
      ] as const;
      const context = await openHost(new FaultyTarget(target, scriptedFaults(rules)), secret);
      await prune(context, { ...REPACK, maxRepackBytes: 20_000 }).catch(() => {});
      await backups.check(writer);
    }
  });

  test('looks again when others commit, forget and collect meanwhile', async () => {
    const { target, secret, context: writer, backups } = await repository();
    let content = await sparse(writer, backups, (block) => block % 4 === 0);
    const context = await openHost(target, secret);
    const pruner = await openHost(target, secret);
    const append = context.log.append.bind(context.log);
    const meanwhile = [
      async () => {
        content = changed(content, (block) => block === 4);
        await backups.store(writer, content);
      },
      async () => forgetBackups(writer, [[...writer.log.state.backups.keys()][0] as string]),
      async () => void (await prune(pruner, { ...REPACK, maxRepackBytes: 30_000 })),
    ];
    let appends = 0;
    context.log.append = async (...args) => {
      appends++;
      // Not before a session is open.
      if (context.log.state.sessions.size > 0) await meanwhile.shift()?.();
      return append(...args);
    };
    const result = await prune(context, REPACK);
    expect(meanwhile.length).toBe(0);
    expect(appends).toBeGreaterThan(4);
    expect(result.repackedPacks).toBeGreaterThan(0);
    await backups.check(context);
    await backups.check(writer);
  });

  test('gives up when its session was fenced', async () => {
    const { target, secret, context: writer, backups } = await repository();
    await sparse(writer, backups, (block) => block % 4 === 0);
    const context = await openHost(target, secret);
    const append = context.log.append.bind(context.log);
    let isFenced = false;
    context.log.append = async (...args) => {
      const [session] = [...context.log.state.sessions.keys()];
      if (session !== undefined && !isFenced) {
        isFenced = true;
        const nothing = {
          packs: [],
          sessions: [],
          relocate: [],
          newPacks: [],
          gonePacks: [],
          goneSessions: [],
          redated: [],
        };
        await writer.log.append(() => ({ type: 'collect', session: undefined, fence: [session], ...nothing }));
      }
      return append(...args);
    };
    expect(await prune(context, REPACK)).toMatchObject({ repackedPacks: 0 });
    expect(isFenced).toBe(true);
    await backups.check(context);
    expect((await prune(writer, REPACK)).repackedPacks).toBeGreaterThan(0);
    await backups.check(writer);
  });

  test('serves a backup that is being written against what it moves', async () => {
    const { context: pruner, target, secret, backups } = await repository();
    const writer = await openHost(target, secret);
    const content = await sparse(writer, backups, (block) => block % 4 === 0);
    let repackedPacks = 0;
    await backups.store(
      writer,
      changed(content, (block) => block % 16 === 0),
      {
        between: async () => {
          repackedPacks += (await prune(pruner, REPACK)).repackedPacks;
        },
      },
    );
    expect(repackedPacks).toBeGreaterThan(0);
    await backups.check(pruner);
    await backups.check(writer);
  });
});
