import { zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decompress } from '../../../src/common/compression.ts';
import { sha256Padding } from '../../../src/common/sha256.ts';
import { decodeDescriptor } from '../../../src/repository/format/map-descriptor-codec.ts';
import { MapGeometry } from '../../../src/repository/format/map-geometry.ts';
import { TRAILER_BYTES } from '../../../src/repository/format/pack-footer.ts';
import type { RecordKind } from '../../../src/repository/format/record.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { contentOfBackup, createIn, openIn, openVolume } from '../support/repositories.ts';
import { openFooter, sealFooter } from './support/codecs-at-once.ts';
import { leafOf } from './support/leaves.ts';

/**
 * The room that later versions have (decisions 133 to 140), seen from version 1: what it leaves alone, and what it refuses in
 * case that nothing announced it.
 */

describe('objects of later versions', () => {
  const STRANGE = ['description/readme.txt', 'cache/content-index/0000', 'cache/index', 'index/0'];

  test.each([false, true])('are left alone by everybody (encrypted: %s)', async (isEncrypted) => {
    const target = new MemoryTarget();
    await (await createIn(target, isEncrypted)).close();
    for (const key of STRANGE) await target.put(key, new Uint8Array(64).fill(0x3f));
    await using repository = await openIn(target, isEncrypted);
    const { device, volume } = await openVolume(4);
    const { id } = await repository.backup(volume, { volume: 'disk' });
    await repository.forget([(await repository.backup(volume, { volume: 'other' })).id]);
    await repository.prune({ graceMs: 0 });
    expect((await repository.verify({ depth: 'data' })).ok).toBe(true);
    expect(Buffer.compare(await contentOfBackup(repository, id), device.bytes)).toBe(0);
    for (const key of STRANGE) expect(await target.stat(key), key).toBeDefined();
  });
});

describe('what nothing announced', () => {
  test('a codec that is not known is damage of the map', () => {
    const geometry = new MapGeometry(64 * 4096, 4096, 8);
    for (let codec = 0; codec < 256; codec++) {
      const reading = expect(() => leafOf(codec, geometry), `codec ${codec}`);
      if (codec < 2) reading.not.toThrow();
      else reading.toThrow(withCode('MAP_CORRUPT'));
    }
  });

  test('a kind that is not known is damage of the pack', () => {
    const name = { session: 1, random: '0123456789abcdef0123456789abcdef' };
    const sealed = (kind: number) => {
      const row = {
        kind: kind as RecordKind,
        id: new Uint8Array(32),
        offset: 8,
        storedLength: 90,
        rawLength: 90,
        hint: 0,
      };
      const rest = sealFooter(
        { rows: [{ ...row, codec: 0 }], bodyBytes: 98, bodySha256: new Uint8Array(32) },
        name,
        undefined,
      );
      const footer = rest.subarray(sha256Padding(98).length, -TRAILER_BYTES);
      return openFooter(footer, name, 98 + rest.length, undefined);
    };
    for (let kind = 0; kind < 16; kind++) {
      const reading = expect(() => sealed(kind), `kind ${kind}`);
      if (kind >= 1 && kind <= 6) reading.not.toThrow();
      else reading.toThrow(withCode('PACK_CORRUPT'));
    }
  });

  test('a frame that needs a dictionary does not decompress', () => {
    const raw = Buffer.from('the same over and over, '.repeat(20));
    const frame = zstdCompressSync(raw);
    // RFC 8878: the two lowest bits of the descriptor say how long the id of a dictionary is, which follows it, or the window.
    const isSingle = ((frame[4] as number) & 0x20) !== 0;
    const at = isSingle ? 5 : 6;
    const withId = Buffer.concat([frame.subarray(0, at), Buffer.of(7), frame.subarray(at)]);
    withId[4] = (frame[4] as number) | 1;
    expect(decompress(frame, raw.length)).toEqual(raw);
    expect(() => decompress(withId, raw.length)).toThrow();
  });

  test('blocks of more than 4 MiB are damage of the descriptor', () => {
    const descriptor = { size: 2 ** 25, blockSize: 2 ** 22, root: null, runs: [], lost: [] };
    expect(decodeDescriptor(descriptor)).toMatchObject({ blockSize: 2 ** 22 });
    for (const blockSize of [2 ** 23, 2 ** 24, 2 ** 25]) {
      expect(() => decodeDescriptor({ ...descriptor, blockSize })).toThrow(withCode('LOG_CORRUPT'));
    }
  });
});
