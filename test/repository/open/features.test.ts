import { describe, expect, test } from 'vitest';
import { encodeMsgpack } from '../../../src/common/msgpack.ts';
import type { OpenOptions } from '../../../src/repository/open/repository-options.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { formatText, readMap, sealedSlot, slotBody, withChecksum } from '../format/support/format-text.ts';
import { createIn, openIn, openVolume } from '../support/repositories.ts';
import { contextOf } from '../verify/support/damaging.ts';

/** What a newer program may ask of this one: by `features` of writers, by `readerFeatures` of everybody. */

const unsupported = withCode('REPOSITORY_UNSUPPORTED');

/** A repository with one backup, and a newer program that changes `format`, and signs it. */
async function repositoryOf(isEncrypted: boolean) {
  const target = new MemoryTarget();
  await using repository = await createIn(target, isEncrypted);
  const { volume } = await openVolume(2);
  const { id } = await repository.backup(volume, { volume: 'disk' });
  const { keys, format } = await contextOf(target, isEncrypted, { readOnly: true });
  const key = keys.repositoryKey && Uint8Array.from(keys.repositoryKey);
  const bodyWith = (changes: object) => encodeMsgpack({ ...readMap(format.body), ...changes });
  const objectWith = (changes: object) =>
    Uint8Array.from(formatText(bodyWith(changes), key, isEncrypted ? format.repositoryId : undefined));
  const change = (changes: object) => target.put('format', objectWith(changes));
  const changeSlot = async (changes: object) => {
    const slot = format.keySlot as string;
    const body = readMap(slotBody(await target.get(`keys/${slot}`)));
    const changed = encodeMsgpack({ ...body, format: bodyWith(changes) });
    await target.put(
      `keys/${slot}`,
      Uint8Array.from(sealedSlot(key as Uint8Array, format.repositoryId, slot, changed)),
    );
  };
  const list = async (options: OpenOptions) => {
    await using opened = await openIn(target, isEncrypted, options);
    return (await Array.fromAsync(opened.listBackups())).map((backup) => backup.id);
  };
  return { target, id, change, changeSlot, list };
}

describe.each([false, true])('encrypted: %s,', (isEncrypted) => {
  test('a reader feature that is not known here keeps readers and writers out', async () => {
    const { change, list } = await repositoryOf(isEncrypted);
    await change({ readerFeatures: ['dictionaries'] });
    for (const readOnly of [false, true]) {
      await expect(list({ readOnly })).rejects.toEqual(unsupported);
      await expect(list({ readOnly })).rejects.toThrow(/to read .* "dictionaries": update this library/);
    }
  });

  test('a feature that is not known here keeps writers out', async () => {
    const { id, change, list } = await repositoryOf(isEncrypted);
    await change({ features: ['dictionaries'] });
    await expect(list({})).rejects.toThrow(/to write to .* "dictionaries": update this library/);
    expect(await list({ readOnly: true })).toEqual([id]);
  });

  test('a newer version that asks nothing of older programs is read and written', async () => {
    const { id, change, list } = await repositoryOf(isEncrypted);
    await change({ version: 9, compatible: ['anything'] });
    for (const readOnly of [false, true]) expect(await list({ readOnly })).toEqual([id]);
  });
});

test('a reader feature is signed: nobody without the key takes it away, or puts one there that is believed', async () => {
  const { target, change, list } = await repositoryOf(true);
  await change({ readerFeatures: ['dictionaries'] });
  const signed = await target.get('format');
  const mac = signed.subarray(960, 992);
  const body = readMap(signed.subarray(20, 20 + Buffer.from(signed).readUInt32LE(16)));
  const repositoryId = body.repositoryId as Uint8Array;
  const stripped = formatText(encodeMsgpack({ ...body, readerFeatures: [] }), new Uint8Array(32), repositoryId);
  for (const each of [mac, new Uint8Array(32), stripped.subarray(960, 992)]) {
    const forged = Buffer.concat([stripped.subarray(0, 960), each]);
    await target.put('format', Uint8Array.from(withChecksum('cow1 format', forged)));
    for (const readOnly of [false, true]) {
      await expect(list({ readOnly })).rejects.toEqual(withCode('REPOSITORY_CORRUPT'));
    }
  }
});

test('a key slot whose copy of format asks for more is one of a newer program, and is skipped', async () => {
  const { changeSlot, list } = await repositoryOf(true);
  await changeSlot({ readerFeatures: ['dictionaries'] });
  await expect(list({})).rejects.toEqual(unsupported);
});
