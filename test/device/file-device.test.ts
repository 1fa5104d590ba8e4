import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BackupError } from '../../src/common/errors.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { fileError } from '../../src/device/file-errors.ts';
import { folderForFile } from '../support/folders.ts';
import { sayLoudly } from './support/loop-device.ts';

const folder = folderForFile();
const newPath = () => join(folder, randomUUID());
const code = (name: string) => expect.objectContaining({ name: 'BackupError', code: name });

async function withContent(bytes: Uint8Array, options = {}): Promise<FileDevice> {
  const path = newPath();
  writeFileSync(path, bytes);
  return await FileDevice.open(path, options);
}

describe('opening a FileDevice', () => {
  test('the size is the file’s, to the byte, and the sector is one byte', async () => {
    for (const size of [0, 1, 511, 4096, 100_001]) {
      await using device = await withContent(new Uint8Array(size));
      expect([device.size, device.sectorSize, device.readOnly]).toEqual([size, 1, false]);
    }
  });

  test('follows a symbolic link', async () => {
    const path = newPath();
    writeFileSync(path, 'twelve bytes');
    symlinkSync(path, `${path}-link`);
    await using device = await FileDevice.open(`${path}-link`);
    expect(device.size).toBe(12);
  });

  test('creates a file of any size that takes no room, for its owner alone', async () => {
    const path = newPath();
    await using device = await FileDevice.open(path, { create: { sizeBytes: 5 * 2 ** 40 } });
    const { size, blocks, mode } = statSync(path);
    expect([device.size, size, mode & 0o777]).toEqual([5 * 2 ** 40, 5 * 2 ** 40, 0o600]);
    expect(blocks * 512).toBeLessThan(1024 * 1024);
    const end = new Uint8Array(10).fill(9);
    await device.read(device.size - 10, end);
    expect(end).toEqual(new Uint8Array(10));
    await device.write(device.size - 10, new Uint8Array(10).fill(8));
    device.readSync(device.size - 10, end);
    expect(end).toEqual(new Uint8Array(10).fill(8));
  });

  test('creates nothing where something is, and leaves it as it was', async () => {
    const path = newPath();
    writeFileSync(path, 'precious');
    await expect(FileDevice.open(path, { create: { sizeBytes: 100 } })).rejects.toEqual(code('DEVICE_EXISTS'));
    expect(readFileSync(path, 'utf8')).toBe('precious');
    await expect(FileDevice.open(folder, { create: { sizeBytes: 100 } })).rejects.toEqual(code('DEVICE_EXISTS'));
  });

  test('leaves nothing behind when it can not create the file in full', async () => {
    const path = newPath();
    const sizeBytes = Number.MAX_SAFE_INTEGER; // More than any file system of ours takes.
    await expect(FileDevice.open(path, { create: { sizeBytes } })).rejects.toEqual(code('NO_SPACE'));
    expect(existsSync(path)).toBe(false);
  });

  test('gives DEVICE_NOT_FOUND for what is not there', async () => {
    for (const path of [newPath(), join(newPath(), 'image')]) {
      await expect(FileDevice.open(path)).rejects.toEqual(code('DEVICE_NOT_FOUND'));
      await expect(FileDevice.open(path, { readOnly: true })).rejects.toEqual(code('DEVICE_NOT_FOUND'));
    }
    const file = newPath();
    writeFileSync(file, '');
    await expect(FileDevice.open(join(file, 'image'))).rejects.toEqual(code('DEVICE_NOT_FOUND'));
  });

  test('gives DEVICE_UNSUPPORTED for folders, pipes, sockets and character devices, and does not wait for any', async () => {
    const pipe = newPath();
    execFileSync('mkfifo', [pipe]);
    const socket = join(folder, 'socket');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    for (const path of [folder, pipe, socket, '/dev/null']) {
      for (const options of [{}, { readOnly: true }, { shared: true }, { readOnly: true, shared: true }]) {
        await expect(FileDevice.open(path, options), path).rejects.toEqual(code('DEVICE_UNSUPPORTED'));
      }
    }
    server.close();
  });

  test.skipIf(process.platform === 'win32')(
    'creates it with the permissions that are asked for under any umask',
    async () => {
      for (const umask of [0o000, 0o077, 0o777]) {
        const before = process.umask(umask);
        try {
          for (const [mode, expected] of [
            [undefined, 0o600],
            [0o640, 0o640],
          ] as const) {
            await using device = await FileDevice.open(newPath(), { create: { sizeBytes: 1, mode } });
            expect(statSync(device.path).mode & 0o7777).toBe(expected);
          }
        } finally {
          process.umask(before);
        }
      }
    },
  );

  test('refuses options that it does not know, or that are none, before anything is opened', async () => {
    const path = newPath();
    for (const options of [
      { readonly: true },
      { readOnly: 1 },
      { shared: 'no' },
      { create: { sizeBytes: 1, size: 1 } },
      { create: { sizeBytes: 1, mode: '600' } },
      { create: 5 },
      new Map(),
      'r',
    ]) {
      await expect(FileDevice.open(path, options as never), JSON.stringify(options)).rejects.toThrow(TypeError);
    }
    expect(existsSync(path)).toBe(false);
  });

  test('refuses options that are not as they should be', async () => {
    await expect(FileDevice.open('')).rejects.toThrow(TypeError);
    for (const sizeBytes of [-1, 1.5, Number.NaN, '5' as never]) {
      await expect(FileDevice.open(newPath(), { create: { sizeBytes } })).rejects.toThrow(TypeError);
    }
    const both = FileDevice.open(newPath(), { create: { sizeBytes: 1 }, readOnly: true });
    await expect(both).rejects.toThrow(TypeError);
  });

  test('keeps the cause of an error, and knows the usual ones by their code', () => {
    const codes = {
      EACCES: 'PERMISSION_DENIED',
      EROFS: 'READ_ONLY',
      ENOSPC: 'NO_SPACE',
      EDQUOT: 'NO_SPACE',
      EIO: 'DEVICE_IO',
    };
    for (const [name, expected] of Object.entries(codes)) {
      const cause = Object.assign(new Error('from the system'), { code: name });
      expect(fileError('read', '/image', cause)).toMatchObject({ code: expected, cause });
    }
    const coded = new BackupError('SHORT_READ', 'ended early');
    expect(fileError('read', '/image', coded)).toBe(coded);
  });
});

describe('a FileDevice in use', () => {
  test('refuses offsets and buffers that are none through every door, and writes nothing', async () => {
    await using device = await withContent(new Uint8Array(8192).fill(1));
    const detached = new Uint8Array(16);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    const bytes = new Uint8Array(16).fill(9);
    for (const offset of ['0', '4096', null, [4096], true, 1.5, Number.NaN, undefined]) {
      await expect(device.write(offset as never, bytes)).rejects.toThrow(TypeError);
      await expect(device.read(offset as never, bytes.slice())).rejects.toThrow(TypeError);
      expect(() => device.writeSync(offset as never, bytes)).toThrow(TypeError);
      expect(() => device.readSync(offset as never, bytes.slice())).toThrow(TypeError);
    }
    for (const none of ['text', [1], null, new Uint16Array(8), new DataView(new ArrayBuffer(8)), detached]) {
      await expect(device.write(0, none as never)).rejects.toThrow(TypeError);
      await expect(device.read(0, none as never)).rejects.toThrow(TypeError);
      expect(() => device.writeSync(0, none as never)).toThrow(TypeError);
      expect(() => device.readSync(0, none as never)).toThrow(TypeError);
    }
    for (const options of [{ sgnal: 1 }, { signal: {} }, null]) {
      await expect(device.write(0, bytes, options as never)).rejects.toThrow(TypeError);
      await expect(device.flush(options as never)).rejects.toThrow(TypeError);
    }
    expect(readFileSync(device.path).every((byte) => byte === 1)).toBe(true);
  });

  test('a buffer that is resized or detached under a write is written as it was at the call, or the write rejects', async () => {
    await using device = await withContent(new Uint8Array(8192));
    const growing = new ArrayBuffer(1000, { maxByteLength: 4000 });
    const write = device.write(0, new Uint8Array(growing).fill(5));
    growing.resize(4000);
    const outcome = await write.then(
      () => 'written',
      (error: unknown) => Object.prototype.toString.call(error),
    );
    expect(['written', '[object Error]']).toContain(outcome);
    expect(
      readFileSync(device.path)
        .subarray(1000)
        .every((byte) => byte === 0),
    ).toBe(true);
    type Memory = { readonly buffer: ArrayBuffer; grow(pages: number): void };
    const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: new (of: { initial: number }) => Memory } })
      .WebAssembly;
    const memory = new Memory({ initial: 1 });
    const grown = device.write(0, new Uint8Array(memory.buffer, 0, 4096));
    memory.grow(1);
    await expect(grown).rejects.toThrow(TypeError);
  });

  test('refuses writes through both doors when it is open for reading only', async () => {
    const content = new Uint8Array(100).fill(3);
    await using device = await withContent(content, { readOnly: true });
    await expect(device.write(0, new Uint8Array(10))).rejects.toEqual(code('READ_ONLY'));
    expect(() => device.writeSync(0, new Uint8Array(10))).toThrow(code('READ_ONLY'));
    await device.flush();
    expect(new Uint8Array(readFileSync(device.path))).toEqual(content);
  });

  test('gives SHORT_READ when the file was cut behind its back, not made-up bytes', async () => {
    await using device = await withContent(new Uint8Array(10_000).fill(4));
    truncateSync(device.path, 6000);
    const into = new Uint8Array(5000);
    await device.read(1000, into);
    await expect(device.read(5000, into)).rejects.toEqual(code('SHORT_READ'));
    await expect(device.read(9000, into.subarray(0, 500))).rejects.toEqual(code('SHORT_READ'));
    expect(() => device.readSync(5000, into)).toThrow(code('SHORT_READ'));
    expect(device.size).toBe(10_000);
  });

  test('reads and writes memory that threads share', async () => {
    await using device = await withContent(new Uint8Array(100));
    const shared = new Uint8Array(new SharedArrayBuffer(40), 10, 20);
    await device.write(7, shared.fill(6));
    device.writeSync(50, shared);
    await device.read(0, shared);
    expect([...shared]).toEqual([...new Uint8Array(7), ...new Uint8Array(13).fill(6)]);
    device.readSync(60, shared);
    expect([...shared]).toEqual([...new Uint8Array(10).fill(6), ...new Uint8Array(10)]);
  });

  test('is not held open by a call that was given no buffer at all', async () => {
    const device = await withContent(new Uint8Array(100));
    await expect(device.read(0, [1, 2, 3] as never)).rejects.toThrow(TypeError);
    await expect(device.write(0, 'text' as never)).rejects.toThrow();
    await device.close();
  });

  test('closing waits for the calls in flight, and only then lets the file go', async () => {
    const device = await withContent(new Uint8Array(4_000_000).fill(7));
    const order: string[] = [];
    const calls = Array.from({ length: 12 }, async (_, index) => {
      const into = new Uint8Array(2_000_000);
      if (index % 3 === 2) await device.flush();
      else await device.read(index, into);
      order.push(index % 3 === 2 || into.every((byte) => byte === 7) ? 'done' : 'not done');
    });
    const closing = device.close().then(() => order.push('closed'));
    await expect(device.read(0, new Uint8Array(1))).rejects.toEqual(code('CLOSED'));
    await Promise.all([...calls, closing]);
    expect(order).toEqual([...calls.map(() => 'done'), 'closed']);
  });

  test('what was flushed is in the file', async () => {
    await using device = await withContent(new Uint8Array(10));
    await device.write(2, new Uint8Array([1, 2, 3]));
    await device.flush();
    expect([...readFileSync(device.path)]).toEqual([0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
  });

  test('gives NO_SPACE on a file system that is full, through both doors', async (context) => {
    const mount = join(folder, 'small');
    mkdirSync(mount);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mount], { stdio: 'pipe' });
    } catch (error) {
      sayLoudly(`NO_SPACE on a full file system: a small tmpfs can't be mounted here (it takes root): ${error}`);
      context.skip('no tmpfs can be mounted here');
    }
    try {
      await using device = await FileDevice.open(join(mount, 'image'), { create: { sizeBytes: 4_000_000 } });
      await expect(device.write(0, new Uint8Array(1_000_000))).rejects.toEqual(code('NO_SPACE'));
      expect(() => device.writeSync(2_000_000, new Uint8Array(1_000_000))).toThrow(code('NO_SPACE'));
      await device.read(3_000_000, new Uint8Array(1_000_000));
    } finally {
      execFileSync('umount', [mount]);
    }
  });
});

describe('a stamp', () => {
  test('resolves only when a later write has a later time, also where the system keeps times to the tick', async () => {
    await using device = await withContent(new Uint8Array(4096));
    for (let write = 0; write < 3; write++) {
      await device.write(0, new Uint8Array(512).fill(write));
      const { version } = await device.stamp!();
      expect(Date.now() - version).toBeGreaterThan(10);
    }
  });
});
