import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../../src/common/errors.ts';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import type { FooterRow } from '../../../src/repository/format/pack-footer.ts';
import type { Location } from '../../../src/repository/format/record.ts';
import { readPackBytes, readPackFooter, sha256OfPack } from '../../../src/repository/packs/pack-reader.ts';
import { PackWriter } from '../../../src/repository/packs/pack-writer.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { property, randomBytes } from '../../support/randomness.ts';

const SESSION = 7;

function record(bytes: Uint8Array, hint = 0) {
  return {
    kind: 1,
    id: createHash('sha256').update(bytes).digest(),
    codec: 0,
    rawLength: bytes.length,
    bytes,
    hint,
  } as const;
}

describe.each([
  { name: 'plain', footerKey: undefined },
  { name: 'encrypted', footerKey: randomBytes(32) },
])('packs, $name', ({ footerKey }) => {
  const open = (target: MemoryTarget, packBytes: number, parallelPuts = 2) => {
    const told: FooterRow[] = [];
    const writer = new PackWriter({
      target,
      session: SESSION,
      footerKey,
      createOnly: true,
      packBytes,
      parallelPuts,
      onStored: (_pack, rows) => told.push(...rows),
    });
    return { writer, told };
  };

  test('every record is where its location and its footer say, whatever the sizes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 60 }),
        fc.integer({ min: 200, max: 5000 }),
        async (sizes, packBytes) => {
          const target = new MemoryTarget();
          const { writer, told } = open(target, packBytes);
          const bodies = sizes.map((size) => new Uint8Array(randomBytes(size)));
          const locations: Location[] = await Promise.all(bodies.map((body, index) => writer.add(record(body, index))));
          await writer.flush();
          expect(told.length).toBe(sizes.length);
          for (const [index, { pack, offset, storedLength }] of locations.entries()) {
            expect(await readPackBytes(target, pack, offset, storedLength)).toEqual(bodies[index]);
          }
          for (const { random, size, sha256 } of writer.stored) {
            const name = { session: SESSION, random };
            const body = await target.get(packKey(name));
            expect(body.length).toBe(size);
            expect(createHash('sha256').update(body).digest()).toEqual(Buffer.from(sha256));
            const footer = await readPackFooter(target, name, size, footerKey);
            expect(Buffer.from(await sha256OfPack(footer))).toEqual(Buffer.from(sha256));
            for (const row of footer.rows) {
              const bytes = body.subarray(row.offset, row.offset + row.storedLength);
              expect(bytes).toEqual(bodies[row.hint]);
              expect(createHash('sha256').update(bytes).digest()).toEqual(Buffer.from(row.id));
            }
          }
        },
      ),
      property(40),
    );
  });

  test('a footer longer than the first guess is read whole', async () => {
    const target = new MemoryTarget();
    const { writer } = open(target, 1 << 20);
    for (let i = 0; i < 3000; i++) await writer.add(record(Uint8Array.of(i & 255, i >> 8), i));
    await writer.flush();
    const [pack] = writer.stored;
    const { rows } = await readPackFooter(target, { session: SESSION, random: pack!.random }, pack!.size, footerKey);
    expect([...rows].map(({ hint }) => hint)).toEqual(Array.from({ length: 3000 }, (_, i) => i));
  });

  test('no more than the allowed packs are on their way at once', async () => {
    const target = new MemoryTarget();
    let now = 0;
    let most = 0;
    const put = target.put.bind(target);
    target.put = async (...call) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      await put(...call);
      now--;
    };
    const { writer } = open(target, 1000, 3);
    await Promise.all(Array.from({ length: 50 }, () => writer.add(record(randomBytes(600)))));
    await writer.flush();
    expect(most).toBe(3);
    expect(writer.stored.length).toBe(50);
  });

  test('after a failed put nothing more is taken and flushing says why', async () => {
    const target = new MemoryTarget();
    target.put = async () => {
      throw new BackupError('NO_SPACE', 'full');
    };
    const { writer, told } = open(target, 1000);
    await writer.add(record(randomBytes(600)));
    await expect(writer.flush()).rejects.toMatchObject({ code: 'NO_SPACE' });
    await expect(writer.add(record(randomBytes(600)))).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(told).toEqual([]);
  });

  test('any flipped byte of the footer or the trailer is found', async () => {
    const target = new MemoryTarget();
    const { writer } = open(target, 1 << 16);
    for (let i = 0; i < 5; i++) await writer.add(record(randomBytes(50), i));
    await writer.flush();
    const [pack] = writer.stored;
    const name = { session: SESSION, random: pack!.random };
    const whole = await target.get(packKey(name));
    for (let at = 8 + 5 * 50; at < whole.length; at++) {
      const damaged = whole.slice();
      damaged[at]! ^= 1 << (at % 8);
      await target.put(packKey(name), damaged);
      await expect(readPackFooter(target, name, whole.length, footerKey)).rejects.toMatchObject({
        code: 'PACK_CORRUPT',
      });
    }
  });

  test('a pack cut short or absent is missing or corrupt, never half read', async () => {
    const target = new MemoryTarget();
    const { writer } = open(target, 1 << 16);
    await writer.add(record(randomBytes(500)));
    await writer.flush();
    const [pack] = writer.stored;
    const name = { session: SESSION, random: pack!.random };
    const whole = await target.get(packKey(name));
    for (const size of [0, 5, 19, 20, 100, whole.length - 1]) {
      await target.put(packKey(name), whole.slice(0, size));
      await expect(readPackFooter(target, name, size, footerKey)).rejects.toMatchObject({ code: 'PACK_CORRUPT' });
      if (size < 508) {
        const message = expect.stringContaining(`${packKey(name)} is too short`);
        await expect(readPackBytes(target, name, 8, 500)).rejects.toMatchObject({ code: 'PACK_MISSING', message });
      }
    }
    await target.delete(packKey(name));
    const missing = { code: 'PACK_MISSING', message: expect.stringContaining(`${packKey(name)} is missing: run`) };
    await expect(readPackFooter(target, name, whole.length, footerKey)).rejects.toMatchObject(missing);
  });
});
