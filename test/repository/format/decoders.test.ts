import { expect, test } from 'vitest';
import { decompress } from '../../../src/common/compression.ts';
import { BackupError } from '../../../src/common/errors.ts';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { decodeKeySlot } from '../../../src/repository/crypto/key-slot.ts';
import { decodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { decodeFormat } from '../../../src/repository/format/format-object.ts';
import { openObject, sealObject } from '../../../src/repository/format/log-object.ts';
import { parseLogKey } from '../../../src/repository/format/object-keys.ts';
import { footerLength, TRAILER_BYTES } from '../../../src/repository/format/pack-footer.ts';
import { readContent } from '../../../src/repository/format/packed-content.ts';
import { BlockStateMap } from '../../../src/state/block-state-map.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes, randomForTest, times, withinMs } from '../../support/randomness.ts';
import { createIn, openVolume, SMALL, writeBlock } from '../support/repositories.ts';
import {
  decodeEntry,
  decodePackTable,
  decodeRelocationTable,
  encodePackTable,
  encodeRelocationTable,
  openFooter,
} from './support/codecs-at-once.ts';

/**
 * Decoders of everything that comes from a store, fed with real objects that were mutated and with noise: a coded error or a
 * value, no hang, no memory beyond the stated limits. (Nodes and runs of maps: `map/corruption.test.ts`; sealed records:
 * `records/seal.test.ts`.)
 */

interface Decoder {
  readonly name: string;
  readonly real: Uint8Array;
  readonly decode: (bytes: Uint8Array) => unknown;
  /** What else it may throw: it stands behind a check of its caller's. */
  readonly mayThrow?: (error: unknown) => boolean;
}

const PACK = { session: 7, random: 'ab'.repeat(16) };

async function decoders(): Promise<Decoder[]> {
  const target = new MemoryTarget();
  const encrypted = new MemoryTarget();
  const repository = await createIn(target);
  const { volume } = await openVolume(40);
  for (let n = 0; n < 20; n++) {
    await writeBlock(volume, n);
    await repository.backup(volume, { volume: `disk ${n % 3}`, metadata: { n: String(n) } });
  }
  await BackupRepository.create(encrypted, { encryption: { passphrase: 'x' }, ...SMALL });
  const found: Decoder[] = [];
  for await (const { key } of target.list('')) {
    const real = await target.get(key);
    const log = parseLogKey(key);
    if (key === 'format') found.push({ name: key, real, decode: decodeFormat });
    else if (log !== undefined) {
      const label = log.kind === 'entry' ? 'cow1 log' : 'cow1 checkpoint';
      const decode = (bytes: Uint8Array) =>
        log.kind === 'entry' ? decodeEntry(undefined, log.seq, bytes) : decodeCheckpoint(undefined, log.seq, bytes);
      found.push({ name: key, real, decode });
      // Behind its checksum, which anybody can make in a plain repository.
      const body = openObject(undefined, label, log.seq, real);
      const resealed = (bytes: Uint8Array) => decode(sealObject(undefined, label, log.seq, bytes));
      found.push({ name: `body of ${key}`, real: body, decode: resealed });
      const repacked = (bytes: Uint8Array) => {
        const head = new Uint8Array(5);
        new DataView(head.buffer).setUint32(1, bytes.length, true);
        return resealed(Buffer.concat([head, bytes]));
      };
      const content = readContent(body, key, body.length * 1000);
      found.push({ name: `content of ${key}`, real: Uint8Array.from(content), decode: repacked });
    }
    if (log === undefined && key !== 'format') {
      const trailer = real.subarray(real.length - TRAILER_BYTES);
      const length = footerLength(trailer, real.length);
      found.push({ name: `trailer of ${key}`, real: trailer, decode: (bytes) => footerLength(bytes, real.length) });
      found.push({
        name: `footer of ${key}`,
        real: real.subarray(real.length - TRAILER_BYTES - length, real.length - TRAILER_BYTES),
        decode: (bytes) => openFooter(bytes, PACK, real.length, undefined),
      });
    }
  }
  for await (const { key } of encrypted.list('keys/')) {
    found.push({ name: 'key slot', real: await encrypted.get(key), decode: decodeKeySlot });
  }
  const packs = Array.from({ length: 9 }, (_, n) => ({
    ...PACK,
    session: n + 1,
    size: 1000 + n,
    sha256: randomBytes(32),
  }));
  found.push({ name: 'table of packs', real: encodePackTable(packs), decode: (bytes) => decodePackTable(bytes, 9) });
  const rows = Array.from({ length: 9 }, (_, n) => ({
    offset: 8 + n * 100,
    to: { pack: PACK, offset: 8, storedLength: 99 },
  }));
  found.push({ name: 'relocation table', real: encodeRelocationTable(rows), decode: decodeRelocationTable });
  found.push({
    name: 'states',
    real: await new BlockStateMap(1000).encode(),
    decode: (bytes) => BlockStateMap.decode(bytes),
  });
  const frame = Uint8Array.from(Buffer.from('KLUv/SAFKQAAaGVsbG8=', 'base64')); // "hello"
  const isNative = (error: unknown) => error instanceof Error && !BackupError.is(error); // `openRecord` gives it its code.
  found.push({ name: 'zstd frame', real: frame, decode: (bytes) => decompress(bytes, 5), mayThrow: isNative });
  return found;
}

test('mutated objects and noise give a coded error or a value, soon, and within bounds', {
  timeout: withinMs(120_000),
}, async () => {
  const random = randomForTest();
  const all = await decoders();
  const names = new Set(all.map(({ name }) => name.replace(/[0-9a-f]{13,}/g, '#')));
  expect([...names].sort()).toEqual([
    'body of log/#',
    'body of log/#-c',
    'content of log/#',
    'content of log/#-c',
    'footer of packs/#/#',
    'format',
    'key slot',
    'log/#',
    'log/#-c',
    'relocation table',
    'states',
    'table of packs',
    'trailer of packs/#/#',
    'zstd frame',
  ]);
  const rounds = times(60);
  let refused = 0;
  let slowestMs = 0;
  const before = process.memoryUsage();
  let most = 0;
  for (const { name, real, decode, mayThrow } of all) {
    await decode(real);
    for (let round = 0; round < rounds; round++) {
      const bytes = round % 10 === 9 ? noise(random) : mutated(real, random);
      const began = performance.now();
      try {
        await decode(bytes);
      } catch (error) {
        if (!BackupError.is(error) && mayThrow?.(error) !== true) {
          expect.fail(`${name}: ${String(error)} for ${Buffer.from(bytes).toString('base64').slice(0, 2000)}`);
        }
        refused++;
      }
      slowestMs = Math.max(slowestMs, performance.now() - began);
      const { heapTotal, external } = process.memoryUsage();
      most = Math.max(most, heapTotal + external - before.heapTotal - before.external);
    }
  }
  expect(refused).toBeGreaterThan(all.length * rounds * 0.3);
  expect(slowestMs).toBeLessThan(2000);
  // None of these objects is larger than some kilobytes; a length that was believed would show.
  expect(most).toBeLessThan(256 * 2 ** 20);
});

function noise(random: () => number): Uint8Array {
  return Uint8Array.from({ length: Math.floor(random() * 2000) }, () => random() * 256);
}

/** Some bytes changed to others or to extremes, a stretch doubled, dropped or cut off. */
function mutated(real: Uint8Array, random: () => number): Uint8Array {
  let bytes = Array.from(real);
  const at = () => Math.floor(random() * bytes.length);
  for (let n = 0; n <= random() * 4; n++) {
    const kind = random();
    if (kind < 0.3) bytes[at()] = Math.floor(random() * 256);
    else if (kind < 0.5)
      bytes[at()] = [0x00, 0x7f, 0x80, 0xc4, 0xc6, 0xcf, 0xdb, 0xdd, 0xdf, 0xff][Math.floor(random() * 10)] as number;
    else if (kind < 0.6) bytes.splice(at(), 0, 0xff, 0xff, 0xff, 0xff);
    else if (kind < 0.75) bytes.splice(at(), Math.ceil(random() * 20));
    else if (kind < 0.9) bytes.splice(at(), 0, ...bytes.slice(at(), at() + 30));
    else bytes = bytes.slice(0, at());
  }
  return Uint8Array.from(bytes);
}
