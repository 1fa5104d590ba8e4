import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { BackupRepository } from '../../src/repository/backup-repository.ts';
import { MemoryTarget } from '../../src/targets/memory-target.ts';
import { CopyOnWriteVolume } from '../../src/volume/copy-on-write-volume.ts';
import { randomForTest, SWEEPS_ALL } from '../support/randomness.ts';
import { BLOCK, contentOfBackup, createIn, encryptionOf, SMALL } from './support/repositories.ts';

/**
 * Every byte of every object of a small repository is damaged, one at a time: reading and verifying show it, or nothing depends
 * on that byte. Wrong data never comes out. It is every byte with `COW_TEST_SWEEP=all`, else every 61st.
 */

const EVERY = SWEEPS_ALL ? 1 : 121;

/** Two volumes, an incremental with a run, zeroes, a tree of three levels, a forgotten backup, a checkpoint. */
async function sample(isEncrypted: boolean) {
  const target = new MemoryTarget();
  const contents = new Map<string, Uint8Array>();
  const repository = await createIn(target, isEncrypted);
  const device = new MemoryDevice(140 * BLOCK + 100);
  for (let block = 0; block < 140; block += 9) device.bytes.fill(block + 1, block * BLOCK, (block + 1) * BLOCK);
  device.bytes.fill(3, 140 * BLOCK);
  const volume = await CopyOnWriteVolume.open(device, { blockSize: BLOCK });
  const store = async (name: string) => {
    const { id } = await repository.backup(volume, { volume: name });
    contents.set(id, device.bytes.slice());
    return id;
  };
  await store('a');
  await volume.write(9 * BLOCK, new Uint8Array(BLOCK).fill(200));
  await volume.write(18 * BLOCK, new Uint8Array(BLOCK));
  await store('a');
  const third = await store('b');
  await repository.forget([third]);
  contents.delete(third);
  await repository.close();
  const encryption = encryptionOf(isEncrypted);
  const unlock = encryption === 'none' ? undefined : encryption;
  const open = () => BackupRepository.open(target, { unlock, readOnly: true, ...SMALL });
  return { target, contents, open };
}

describe.each([false, true])('encrypted: %s', (isEncrypted) => {
  test('no byte can change without being noticed or without effect', { timeout: 600_000 }, async () => {
    const { target, contents, open } = await sample(isEncrypted);
    const random = randomForTest();
    const objects = await Array.fromAsync(target.list(''));
    let noticed = 0;
    let harmless = 0;
    let at = Math.floor(random() * EVERY);
    for (const { key, size } of objects) {
      const whole = await target.get(key);
      for (; at < size; at += EVERY) {
        const damaged = Uint8Array.from(whole);
        damaged[at]! ^= 1 << Math.floor(random() * 8);
        await target.put(key, damaged);
        const where = `byte ${at} of ${size} of ${key}`;
        const outcome = await read(open, contents, where);
        const verdict = await verify(open, where);
        // What could not be read has to show when it is verified.
        if (outcome === 'refused') expect(verdict, where).toBe('refused');
        if (verdict === 'refused') noticed++;
        else harmless++;
      }
      at -= size;
      await target.put(key, whole);
    }
    expect(noticed).toBeGreaterThan(harmless);
  });

  test('nor can an object be cut, lengthened, exchanged, emptied or made of noise', { timeout: 600_000 }, async () => {
    const { target, contents, open } = await sample(isEncrypted);
    const random = randomForTest();
    const objects = await Array.fromAsync(target.list(''));
    const bodies = new Map<string, Uint8Array<ArrayBuffer>>();
    for (const { key } of objects) bodies.set(key, Uint8Array.from(await target.get(key)));
    const others = [...bodies.values()];
    for (const [key, whole] of bodies) {
      const other = others[Math.floor(random() * others.length)] as Uint8Array;
      const cut = Math.floor(random() * whole.length);
      const noise = Uint8Array.from({ length: 1 + Math.floor(random() * 3000) }, () => random() * 256);
      const damages: Record<string, Uint8Array> = {
        'cut by one': whole.subarray(0, whole.length - 1),
        [`cut to ${cut}`]: whole.subarray(0, cut),
        empty: new Uint8Array(0),
        lengthened: Buffer.concat([whole, noise]),
        exchanged: other,
        noise,
        'noise at its end': Buffer.concat([whole.subarray(0, cut), noise]),
        'lengths that lie': lie(whole, random),
      };
      for (const [how, damaged] of Object.entries(damages)) {
        if (Buffer.compare(damaged, whole) === 0) continue;
        await target.put(key, Uint8Array.from(damaged));
        const where = `${key}, ${how}`;
        const outcome = await read(open, contents, where);
        const verdict = await verify(open, where);
        if (outcome === 'refused') expect(verdict, where).toBe('refused');
      }
      await target.put(key, whole);
    }
  });
});

/** Bytes that are most often a length, or a type with one, made as large as they can be. */
function lie(whole: Uint8Array, random: () => number): Uint8Array {
  const damaged = Uint8Array.from(whole);
  for (let n = 0; n < 3; n++) {
    const at = Math.floor(random() * whole.length);
    damaged.fill(random() < 0.5 ? 0xff : 0xdd, at, at + 1 + Math.floor(random() * 5));
  }
  return damaged;
}

/** Whether everything is there and right, or an error says that something is not. */
async function read(open: () => Promise<BackupRepository>, contents: ReadonlyMap<string, Uint8Array>, where: string) {
  let isRefused = false;
  try {
    await using repository = await open();
    const listed = (await Array.fromAsync(repository.listBackups())).map(({ id }) => id).sort();
    // Where the log's newest entries are damaged it is opened as of the last sound one, and says so.
    if (repository.damage !== undefined) isRefused = true;
    else expect(listed, where).toEqual([...contents.keys()].sort());
    for (const [id, expected] of contents) {
      if (!listed.includes(id)) continue;
      try {
        const found = await contentOfBackup(repository, id);
        if (Buffer.compare(found, expected) !== 0) expect.fail(`wrong data: ${where}`);
      } catch (error) {
        if (!BackupError.is(error)) throw error;
        isRefused = true;
      }
    }
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    isRefused = true;
  }
  return isRefused ? 'refused' : 'right';
}

async function verify(open: () => Promise<BackupRepository>, where: string) {
  try {
    await using repository = await open();
    const { ok, damaged, damagedObjects } = await repository.verify({ depth: 'data' });
    expect(ok, where).toBe(damaged.length + damagedObjects.length === 0);
    return ok ? 'right' : 'refused';
  } catch (error) {
    if (!BackupError.is(error)) throw error;
    return 'refused';
  }
}
