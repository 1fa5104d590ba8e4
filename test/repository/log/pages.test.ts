import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import { pageKeyOf, volumeDigits } from '../../../src/repository/format/catalogue-pages.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import type { CommittedPack, LogFact } from '../../../src/repository/format/log-entry.ts';
import { sealObject } from '../../../src/repository/format/log-object.ts';
import { backupOf, EMPTY_STATE, headOf, isKnown, type LogState } from '../../../src/repository/format/log-state.ts';
import { secondCopyOf } from '../../../src/repository/format/object-keys.ts';
import { decodePage, encodePage, MAX_PAGE_BYTES } from '../../../src/repository/format/page-codec.ts';
import { checkCopies } from '../../../src/repository/log/pages/page-copies.ts';
import type { PageLimits } from '../../../src/repository/log/pages/page-limits.ts';
import { isHeavy, type PageFiles, pageOut } from '../../../src/repository/log/pages/page-out.ts';
import { PageStore } from '../../../src/repository/log/pages/page-store.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes, randomForTest, testSeed, times, withinMs } from '../../support/randomness.ts';
import { withCode } from '../../support/with-code.ts';
import {
  backup,
  collect,
  commit,
  entryAfter,
  hexId,
  id32,
  location,
  nameOf,
  open,
  pack,
  relocation,
} from './support/facts.ts';
import { applyEntry } from './support/fold-at-once.ts';
import { LOG_KEY } from './support/hosts.ts';

/** L8, L9: a state in pages says what it says whole, whatever is folded into it and whenever rows are moved. */

const SMALL: PageLimits = { rows: 5, weight: 2 ** 20, looseWeight: 3000 };
const VOLUMES = ['a', 'b', 'c', 'd', 'e', 'f'];

/** A log of random entries, folded into a state that is whole and into one in pages. */
class TwoStates {
  whole: LogState = EMPTY_STATE;
  paged: LogState = EMPTY_STATE;
  readonly target = new MemoryTarget();
  readonly #random = randomForTest();
  /** All that were ever there. */
  readonly ids: string[] = [];
  readonly packs: CommittedPack[] = [];

  constructor(seed: number) {
    this.#random = randomForTest(seed);
  }

  get store(): PageStore {
    return new PageStore({ target: this.target, logKey: LOG_KEY });
  }

  append(fact: LogFact): void {
    const entry = entryAfter(this.whole, fact);
    const hash = id32();
    this.whole = applyEntry(this.whole, entry, hash);
    this.paged = applyEntry(this.paged, entry, hash);
  }

  async moveRows(everything = this.#random.below(4) === 0): Promise<void> {
    const { store } = this;
    const files: PageFiles = {
      rows: (table, ref) => store.rows(table, ref),
      put: (ref, bytes) => store.put(ref, bytes, true, {}),
    };
    const moved = await pageOut(this.paged, files, { logKey: LOG_KEY, everything, limits: SMALL });
    expect(isHeavy(moved, SMALL) && moved.backups.size > 0).toBe(false);
    // As another process opens it.
    const checkpoint = await encodeCheckpoint(LOG_KEY, moved);
    this.paged = await decodeCheckpoint(LOG_KEY, moved.seq, checkpoint as Uint8Array);
    expect({ ...this.paged }).toEqual({ ...moved });
  }

  step(): void {
    const { below } = this.#random;
    const { backups, sessions, known, condemned } = this.whole;
    const live = [...backups.values()];
    const some = live.filter(() => below(4) === 0);
    const free = live.filter(({ hold }) => hold === undefined);
    const choice = below(10);
    if (choice < 4) this.#backUp(VOLUMES[below(VOLUMES.length)] as string);
    else if (choice === 4 && some.length > 0) {
      this.append({ type: 'hold', backups: some.map(({ id }) => id), reason: below(2) === 0 ? undefined : 'audit' });
    } else if (choice === 5) {
      const held = live.filter(({ hold }) => hold !== undefined).map(({ id }) => id);
      if (held.length > 0) this.append({ type: 'release', backups: held.slice(0, 1 + below(held.length)) });
    } else if (choice < 8) {
      const forgotten = free.filter(() => below(3) === 0).map(({ id }) => id);
      if (forgotten.length > 0) this.append({ type: 'forget', backups: forgotten });
    } else if (sessions.size === 0) {
      // Only packs in which no map begins are condemned here, as a collector has it.
      const starts = new Set(live.map(({ descriptor }) => descriptor.root?.location.pack.random));
      const dead = [...known].flatMap(([session, { packs }]) =>
        [...packs.keys()].filter((name) => !starts.has(name) && below(2) === 0).map((random) => ({ session, random })),
      );
      const gonePacks = [...condemned.values()].filter(() => below(2) === 0).map(({ pack }) => pack);
      if (dead.length + gonePacks.length > 0) this.append(collect({ packs: dead.map(nameOf), gonePacks }));
    }
  }

  #backUp(volume: string): void {
    const { below } = this.#random;
    for (const session of this.whole.sessions.values()) {
      if (session.volumes.has(volume)) return void this.#commit(session.seq, volume, session.volumes.get(volume));
    }
    const head = this.whole.heads.get(volume)?.id;
    const base = head !== undefined && this.whole.backups.has(head) && below(3) > 0 ? head : undefined;
    this.append(open({ [volume]: base }));
    if (below(3) > 0) this.#commit(this.whole.seq, volume, base);
  }

  #commit(session: number, volume: string, base: string | undefined): void {
    const { below } = this.#random;
    const packs = Array.from({ length: 1 + below(3) }, (_, n) => ({
      ...{ session, random: hexId(), size: 1000 + n, sha256: id32() },
    }));
    const [root, ...runs] = packs as [CommittedPack, ...CommittedPack[]];
    const one = backup(root, { volume, parent: this.whole.heads.get(volume)?.id, base, metadata: { n: `${session}` } });
    const table = { id: id32(), location: location(root), packs: runs.length };
    const isTabled = runs.length > 0 && below(4) === 0;
    this.ids.push(one.id);
    this.packs.push(...packs);
    this.append(commit(session, [one], isTabled ? [root] : packs, isTabled ? [table] : []));
  }

  /** What lookups by volume, id and pack say, each with the pages that it needs. */
  async compareLookups(): Promise<void> {
    const { whole, paged, store } = this;
    for (const volume of VOLUMES) {
      const seen = await store.takeIn(paged, { volumes: [volume] });
      const own = (state: LogState) => [...state.backups.values()].filter((each) => each.volume === volume);
      expect(own(seen)).toEqual(own(whole));
      expect(headOf(seen, volume)).toEqual(whole.heads.get(volume));
      // Of other volumes, which have rows in the same pages, it says the truth or nothing.
      for (const other of VOLUMES) {
        const head = seen.heads.get(other);
        if (head !== undefined) expect(head).toEqual(whole.heads.get(other));
      }
    }
    const newest = async (of: readonly { volume: string; count: number }[]) => {
      const seen = await store.takeIn(paged, { newest: of });
      for (const { volume, count } of of) {
        const own = (state: LogState) =>
          [...state.backups.values()].filter((each) => each.volume === volume).slice(-count);
        expect(own(seen)).toEqual(own(whole));
        expect(headOf(seen, volume)).toEqual(whole.heads.get(volume));
      }
    };
    for (const count of [1, 3]) {
      await newest(VOLUMES.map((volume) => ({ volume, count })));
      for (const volume of VOLUMES) await newest([{ volume, count }]);
    }
    for (const id of this.ids) {
      expect(backupOf(await store.takeIn(paged, { ids: [id] }), id)).toEqual(whole.backups.get(id));
    }
    for (const pack of this.packs) {
      expect(isKnown(await store.takeIn(paged, { packs: [pack] }), pack)).toBe(isKnown(whole, pack));
    }
  }
}

test(
  'rows that are moved into pages at any time say what they said, whole and by each way to look them up',
  async () => {
    let pages = 0;
    let levels = 0;
    for (let history = 0; history < times(8); history++) {
      const seed = testSeed() + history;
      const states = new TwoStates(seed);
      for (let step = 0; step < 120; step++) {
        states.step();
        if (step % 7 === 6 && states.whole.seq > 0) await states.moveRows();
        if (step % 20 !== 19) continue;
        const { backups, packs } = states.paged.pages;
        pages = Math.max(pages, backups.length, packs.length);
        levels = Math.max(levels, new Set(backups.map(({ level }) => level)).size);
        const whole = await states.store.takeIn(states.paged, 'all');
        expect({ ...whole }, `seed ${seed}, step ${step}`).toEqual({ ...states.whole });
        expect([...whole.backups.keys()]).toEqual([...states.whole.backups.keys()]);
        await states.compareLookups();
      }
    }
    // Or else nothing was tried.
    expect([pages > 3, levels]).toEqual([true, 2]);
  },
  withinMs(60_000),
);

test('a backup that was released and forgotten while a session builds on it is pinned without its hold', async () => {
  for (const isMerged of [true, false]) {
    const states = new TwoStates(testSeed());
    for (let step = 0; step < 40; step++) states.step(); // Enough for pages of both levels.
    for (const session of states.whole.sessions.keys()) states.append({ type: 'abort', session });
    states.append(open({ held: undefined }));
    const stored = pack(states.whole.seq, 'a');
    const one = backup(stored, { volume: 'held' });
    states.append(commit(stored.session, [one], [stored]));
    states.append({ type: 'hold', backups: [one.id], reason: 'audit' });
    await states.moveRows(true);
    states.append(open({ held: one.id }));
    states.append({ type: 'release', backups: [one.id] });
    states.append({ type: 'forget', backups: [one.id] });
    if (isMerged) await states.moveRows(true);
    expect(states.whole.pinned.get(one.id)?.hold).toBeUndefined();
    expect({ ...(await states.store.takeIn(states.paged, 'all')) }).toEqual({ ...states.whole });
  }
});

test('a former relocation ends with the pack of its table, whether or not pages have packs beside that', async () => {
  const states = new TwoStates(testSeed());
  states.append(open({ a: undefined }));
  const [a, b, c] = [pack(1, 'a'), pack(1, 'b'), pack(1, 'c')];
  states.append(commit(1, [backup(a, { volume: 'a' })], [a, b, c]));
  const [m, n] = [pack(3, 'm'), pack(5, 'n')];
  states.append(open({}));
  states.append(collect({ session: 3, newPacks: [m], packs: [nameOf(b)], relocate: [relocation(b, m)] }));
  states.append(open({}));
  const again = [relocation(b, n), relocation(m, n)];
  states.append(collect({ session: 5, newPacks: [n], packs: [nameOf(m), nameOf(c)], relocate: again }));
  expect([...states.whole.formerRelocations.keys()]).toHaveLength(1);
  // Then m has no row any more, and lies between those of a and n.
  await states.moveRows(true);
  expect(states.paged.pages.packs).toHaveLength(1);
  states.append(collect({ gonePacks: [nameOf(m)] }));
  expect(states.whole.formerRelocations.size).toBe(0);
  expect({ ...(await states.store.takeIn(states.paged, 'all')) }).toEqual({ ...states.whole });
});

test('the newest backups of a volume are without a gap, also where an older page is read for another volume', async () => {
  const states = new TwoStates(testSeed());
  const own = 'long';
  const before = Array.from({ length: 100 }, (_, n) => `b${n}`).find((name) => volumeDigits(name) < volumeDigits(own))!;
  let parent: string | undefined;
  for (let n = 0; n < 32; n++) {
    const volume = n < 2 ? before : own;
    if (n === 2) parent = undefined;
    states.append(open({ [volume]: undefined }));
    const stored = pack(states.whole.seq, 'a');
    const one = backup(stored, { volume, parent });
    parent = one.id;
    states.append(commit(stored.session, [one], [stored]));
  }
  await states.moveRows(true);
  expect(states.paged.pages.backups.length).toBeGreaterThan(4);
  const seen = await states.store.takeIn(states.paged, { volumes: [before], newest: [{ volume: own, count: 4 }] });
  const newest = (state: LogState) => [...state.backups.values()].filter(({ volume }) => volume === own).slice(-4);
  expect(newest(seen)).toEqual(newest(states.whole));
  expect(seen.backups.size).toBeLessThan(20);
});

describe('a pack that two commits name, because both adopted its session,', () => {
  test.each([
    ['in a page and outside', false, false],
    ['in two pages', true, false],
    ['in one page, after merging', true, true],
  ])('has its rows %s, and is not known any more when it is condemned', async (_where, isMoved, isMerged) => {
    const states = new TwoStates(testSeed());
    const adopted = { ...pack(1, 'x'), session: 1 };
    const commitOf = (volume: string, session: number) => {
      const own = pack(session, 'o');
      states.append(commit(session, [backup(own, { volume })], [own, adopted]));
    };
    const expectSame = async () =>
      expect({ ...(await states.store.takeIn(states.paged, 'all')) }).toEqual({ ...states.whole });
    for (let n = 0; n < 40; n++) states.step(); // Enough for pages of both levels.
    for (const session of states.whole.sessions.keys()) states.append({ type: 'abort', session });
    await states.moveRows(true);
    const first = states.whole.seq + 1;
    adopted.session = first;
    states.append(open({ x: undefined, y: undefined }));
    states.append(open({ x: undefined }, { fence: [first], adopt: [first] }));
    commitOf('x', first + 1);
    await states.moveRows(true);
    states.append(open({ y: undefined }, { adopt: [first] }));
    commitOf('y', first + 3);
    if (isMoved) await states.moveRows(isMerged);
    await expectSame();
    states.append(collect({ packs: [nameOf(adopted)] }));
    await expectSame();
    await states.moveRows(false);
    await expectSame();
    const seen = await states.store.takeIn(states.paged, { packs: [adopted] });
    expect(isKnown(seen, adopted)).toBe(false);
    await states.moveRows(true);
    await expectSame();
  });
});

describe('a page', () => {
  async function paged() {
    const states = new TwoStates(testSeed());
    for (let step = 0; step < 60; step++) states.step();
    await states.moveRows(true);
    return states;
  }

  test('that was not taken in is never taken for one without the row', async () => {
    const { paged: state, ids, packs } = await paged();
    expect(() => backupOf(state, ids[0] as string)).toThrow('was not taken in');
    expect(() => headOf(state, 'a')).toThrow('was not taken in');
    expect(() => isKnown(state, packs[0] as CommittedPack)).toThrow('was not taken in');
  });

  test('is read from its second copy if the first is missing or damaged in any of its bits, and no third thing is believed', async () => {
    const { paged: state, target, store, whole } = await paged();
    for (const table of ['backups', 'packs'] as const) {
      for (const ref of state.pages[table]) {
        const key = pageKeyOf(ref);
        const bytes = Uint8Array.from(await target.get(key));
        for (let bit = 0; bit < 8 * bytes.length; bit += 97) {
          const damaged = bytes.slice();
          damaged[bit >> 3]! ^= 1 << (bit & 7);
          await target.put(key, damaged);
          expect(await new PageStore({ target, logKey: LOG_KEY }).rows(table, ref)).toEqual(
            await store.rows(table, ref),
          );
        }
        await target.delete(key);
        await new PageStore({ target, logKey: LOG_KEY }).rows(table, ref);
        await target.put(key, Uint8Array.from(bytes.subarray(1)));
        await target.delete(secondCopyOf(key));
        await expect(new PageStore({ target, logKey: LOG_KEY }).rows(table, ref)).rejects.toEqual(
          expect.objectContaining({ code: 'LOG_CORRUPT', message: expect.stringContaining(secondCopyOf(key)) }),
        );
        await target.put(key, bytes);
      }
    }
    expect({ ...(await store.takeIn(state, 'all')) }).toEqual({ ...whole });
  });

  test('is not another one whose rows have the same keys', async () => {
    const { paged: state, target, store } = await paged();
    const ref = state.pages.backups[0]!;
    const rows = await store.rows('backups', ref);
    const changed = rows.map((row) => ('metadata' in row ? { ...row, metadata: { n: 'other' } } : row));
    const other = await encodePage(LOG_KEY, 'backups', ref, changed);
    expect([other.ref.first, other.ref.last]).toEqual([ref.first, ref.last]);
    for (const key of [pageKeyOf(ref), secondCopyOf(pageKeyOf(ref))]) await target.put(key, other.bytes);
    const read = new PageStore({ target, logKey: LOG_KEY }).rows('backups', { ...ref, size: other.bytes.length });
    await expect(read).rejects.toEqual(withCode('LOG_CORRUPT'));
  });

  test('that is named as larger than a page may be is not requested', async () => {
    const { paged: state } = await paged();
    const ref = { ...state.pages.backups[0]!, size: MAX_PAGE_BYTES + 1 };
    // A request would find that there is no object.
    const source = { target: new MemoryTarget(), logKey: LOG_KEY };
    const isTooLarge = { code: 'LOG_CORRUPT', message: expect.stringContaining('larger than a page may be') };
    await expect(new PageStore(source).rows('backups', ref)).rejects.toMatchObject({ cause: isTooLarge });
    const { lost } = await checkCopies({ ...source, mayWrite: true }, { backups: [ref], packs: [] });
    const keys = [pageKeyOf(ref), secondCopyOf(pageKeyOf(ref))];
    expect(lost).toMatchObject(keys.map((key) => ({ key, error: isTooLarge })));
  });

  test('of few bytes that would take much memory is refused', async () => {
    const names = Object.fromEntries(Array.from({ length: 4000 }, (_, n) => [n.toString(36).padStart(4, '-'), '']));
    const rows = Array.from({ length: 40 }, (_, n) => ({
      ...{ ...backup(pack(1, 'a'), { metadata: names }), seq: n + 1, committedAt: 0, session: 1 },
    }));
    const { ref, bytes } = await encodePage(undefined, 'backups', { seq: 9, level: 1 }, rows);
    // A writer stores it as it is.
    expect(bytes[0]).toBe(0);
    expect(await decodePage(undefined, 'backups', ref, bytes)).toHaveLength(40);
    // What compresses too well is refused unread: a field that no reader knows helps.
    const field = [encodeMsgpack('padding'), encodeMsgpack(randomBytes(12_000))];
    const raw = Buffer.concat([bytes.subarray(5, -32), ...field]);
    raw[0]! += 1;
    const frame = zstdCompressSync(raw);
    const padding = Buffer.alloc(5);
    padding[0] = 1;
    padding.writeUInt32LE(raw.length, 1);
    const forged = sealObject(undefined, 'cow1 page', 9, Buffer.concat([padding, frame]));
    const named = { ...ref, sha256: createHash('sha256').update(forged).digest(), size: forged.length };
    await expect(decodePage(undefined, 'backups', named, forged)).rejects.toThrow('more memory than its length allows');
  });
});
