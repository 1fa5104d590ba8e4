import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FileTarget, PipelineRecord } from '../../src/index.ts';
import { testOnS3 } from '../support/s3.ts';
import {
  BLOCK,
  IMAGE_BYTES,
  load,
  makePlace,
  type Place,
  type Run,
  requireBuild,
  runDemo,
  s3Environment,
  sha256,
} from './support/run-demo.ts';

const VERDICT = 'restored image is byte for byte the image at the frozen instant';

let place: Place;
let folder: string;
let image: string;
let temporary: string;
let objects: string;

beforeAll(requireBuild);

beforeEach(async () => {
  const made = await makePlace();
  place = made;
  ({ folder, image, temporary, objects } = made);
  return () => made[Symbol.asyncDispose]();
});

function run(args: string[], ...rest: [env?: NodeJS.ProcessEnv, onOutput?: Parameters<typeof runDemo>[4]]) {
  return runDemo('compose-your-own-pipeline.ts', args, place, ...rest);
}

/** What the demo says the frozen image was. */
function frozenSha256({ out }: Run): string | undefined {
  return /SHA-256 ([0-9a-f]{64})/.exec(out)?.[1];
}

/** What `checksum` appends, by its documentation. */
function checksumOf(block: number, bytes: Uint8Array): Uint8Array {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(block));
  return Uint8Array.from(createHash('sha256').update('cow1 block checksum').update(number).update(bytes).digest());
}

describe('to a folder', () => {
  test('what was stored while writes went on restores to the image at the frozen instant', async () => {
    const before = sha256(await readFile(image));
    const backup = await run([image, '--to', objects, ...load()]);
    expect(backup.err).toBe('');
    expect(backup).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    expect(backup.out).toMatch(/intercepted +[1-9]/);
    expect(backup.out).toMatch(/swept +[1-9]/);
    expect(await readdir(temporary)).toEqual([]);
    expect(sha256(await readFile(image)), 'the image given is not written to').toBe(before);

    const again = join(folder, 'again.img');
    expect(await run(['--restore', again, '--to', objects])).toMatchObject({ code: 0, err: '' });
    expect(sha256(await readFile(again))).toBe(frozenSha256(backup));
  });

  test('the objects are what the record says, and put together they are the image', async () => {
    const backup = await run([image, '--to', objects, ...load()]);
    expect(backup.code, backup.err).toBe(0);
    await using target = new FileTarget(objects);
    const { size, blockSize, isWhole, states } = await PipelineRecord.decode(await target.get('record'));
    expect({ size, blockSize, isWhole }).toEqual({ size: IMAGE_BYTES, blockSize: BLOCK, isWhole: true });
    const whole = new Uint8Array(IMAGE_BYTES);
    const stored = await Array.fromAsync(target.list('blocks/'));
    for (const { key } of stored) {
      const block = Number(key.slice('blocks/'.length));
      const object = await target.get(key);
      const bytes = object.subarray(0, -32);
      expect(states.get(block)).toBe('stored');
      expect(object.subarray(-32)).toEqual(checksumOf(block, bytes));
      whole.set(bytes, block * BLOCK);
    }
    expect(stored).toHaveLength(states.counts.stored);
    expect(stored.length, 'zero blocks are not stored').toBeLessThan(states.blockCount);
    expect(states.counts.stored + states.counts.zero).toBe(Math.ceil(IMAGE_BYTES / BLOCK));
    expect(sha256(whole)).toBe(frozenSha256(backup));
  });

  test('a backup that overwrites alone complete needs no sweep', async () => {
    await writeFile(image, new Uint8Array(4 * BLOCK).fill(1));
    const backup = await run([image, '--writes-per-second', '200', '--lazy-seconds', '30', '--seed', '1']);
    expect(backup).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    expect(backup.out).toMatch(/swept +0 B/);
  });

  test('a corrupted object or record is noticed, and no file is left that could be taken for the image', async () => {
    expect((await run([image, '--to', objects, ...load()])).code).toBe(0);
    {
      await using target = new FileTarget(objects);
      const [info] = await Array.fromAsync(target.list('blocks/'));
      const bytes = await target.get(info!.key);
      bytes[bytes.length - 1]! ^= 1;
      await target.put(info!.key, bytes);
    }
    const again = join(folder, 'again.img');
    const restore = await run(['--restore', again, '--to', objects]);
    expect(restore).toMatchObject({ code: 1, err: expect.stringMatching(/^BLOCK_CORRUPT: block \d+ is not what/) });
    expect((await readdir(folder)).toSorted()).toEqual(['disk.img', 'objects', 'tmp']);

    {
      await using target = new FileTarget(objects);
      const bytes = await target.get('record');
      bytes[20]! ^= 1;
      await target.put('record', bytes);
    }
    const unrecorded = await run(['--restore', again, '--to', objects]);
    expect(unrecorded).toMatchObject({ code: 1, err: expect.stringContaining('STATE_CORRUPT') });
    expect((await readdir(folder)).toSorted()).toEqual(['disk.img', 'objects', 'tmp']);
  });

  test('a missing object is noticed', async () => {
    expect((await run([image, '--to', objects, ...load()])).code).toBe(0);
    {
      await using target = new FileTarget(objects);
      await target.delete('blocks/000040');
    }
    const restore = await run(['--restore', join(folder, 'again.img'), '--to', objects]);
    expect(restore).toMatchObject({ code: 1, err: expect.stringContaining('OBJECT_NOT_FOUND') });
  });

  test('an earlier backup is not written over', async () => {
    expect((await run([image, '--to', objects, ...load()])).code).toBe(0);
    const second = await run([image, '--to', objects, ...load()]);
    expect(second).toMatchObject({ code: 1, err: expect.stringContaining('holds objects already') });
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s ends it and leaves no temporary file', async (signal) => {
    let sent = false;
    const interrupted = await run([image, '--lazy-seconds', '600'], {}, (out, kill) => {
      if (!sent && out.includes('Intercepting')) kill(signal);
      sent ||= out.includes('Intercepting');
    });
    expect(interrupted).toMatchObject({ code: signal === 'SIGINT' ? 130 : 143, err: `interrupted by ${signal}\n` });
    expect(await readdir(temporary)).toEqual([]);
  });
});

test('the method is 25 lines or fewer, both ways, and its steps are named in their order', async () => {
  const text = await readFile(join(import.meta.dirname, '../../demo/compose-your-own-pipeline.ts'), 'utf8');
  const method = text.match(/^async function (?:backUp|restore)\(.*?^}$/gms)?.join('\n') ?? '';
  expect(method.split('\n').length).toBeLessThanOrEqual(25);
  const steps = [
    'first instruction',
    'record',
    'compare',
    'upload',
    'ask',
    'second instruction',
    'complete',
    'restore',
  ];
  expect(method).toMatch(new RegExp(steps.map((step) => `\\b${step}\\b`).join('.*'), 'is'));
});

test('a command line that makes no sense is explained', async () => {
  const aimless = await run(['--restore', join(folder, 'again.img')]);
  expect(aimless).toMatchObject({ code: 2, err: expect.stringContaining('--restore needs --to') });
  const missing = await run([join(folder, 'no.img')]);
  expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('no.img is not a file') });
});

testOnS3(
  'to S3: what was stored while writes went on restores to the image at the frozen instant',
  async (client, bucket) => {
    const env = s3Environment();
    const to = `s3://${bucket}/demo/disk`;
    const backup = await run([image, '--to', to, ...load()], env);
    expect(backup.err).toBe('');
    expect(backup).toMatchObject({ code: 0, out: expect.stringContaining(VERDICT) });
    const again = join(folder, 'again.img');
    expect(await run(['--restore', again, '--to', to], env)).toMatchObject({ code: 0, err: '' });
    expect(sha256(await readFile(again))).toBe(frozenSha256(backup));

    await client.putObject(bucket, 'demo/disk/blocks/000040', Buffer.alloc(BLOCK, 1));
    const corrupted = await run(['--restore', join(folder, 'third.img'), '--to', to], env);
    expect(corrupted).toMatchObject({ code: 1, err: expect.stringContaining('BLOCK_CORRUPT') });
  },
);
