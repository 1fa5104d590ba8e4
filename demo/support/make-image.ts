import { execFile } from 'node:child_process';
import { constants, type Dirent } from 'node:fs';
import { copyFile, mkdir, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import PQueue from 'p-queue';

const run = promisify(execFile);

const MIB = 1024 * 1024;
/** How long the image is. */
export const IMAGE_BYTES = 512 * MIB;
/** Real files in it; the rest stays empty, as on any disk. */
const CONTENT_BYTES = 360 * MIB;
/** The most that is taken from one folder, so that there is some of everything. */
const SOURCE_BYTES = CONTENT_BYTES / 2;
const MAX_FILE_BYTES = 64 * MIB;
const FILESYSTEM_BLOCK = 4096;
/** Folders with real files; not every machine has all of them. */
const SOURCES = ['/usr/lib', 'node_modules', '/usr/share', '/usr/bin', '/usr/local', '/Library', '/opt'];
/** Where tools for administrators are, which may not be on the path of others. */
const SYSTEM_PATH = ['/usr/sbin', '/sbin', '/opt/homebrew/opt/e2fsprogs/sbin', '/usr/local/opt/e2fsprogs/sbin'];

export interface MakeImageOptions {
  /** The image to make. */
  readonly path: string;
  /** A folder for the files meanwhile; it is gone afterwards. */
  readonly staging: string;
  readonly signal: AbortSignal;
  readonly onProgress: (what: string, doneBytes: number, totalBytes: number) => void;
}

/** Makes an ext4 image of 512 MiB out of real files of this machine. Returns how many there are in it. */
export async function makeImage({ path, staging, signal, onProgress }: MakeImageOptions): Promise<number> {
  const mkfs = await findMkfs();
  const copies = new PQueue({ concurrency: 16 });
  let files = 0;
  let copied = 0;
  const copy = async (source: string) => {
    const copyPath = join(staging, source);
    await mkdir(dirname(copyPath), { recursive: true });
    await copyFile(source, copyPath, constants.COPYFILE_FICLONE);
    files++;
  };
  for await (const { source, size } of realFiles()) {
    signal.throwIfAborted();
    if (copied + size > CONTENT_BYTES) break;
    copied += size;
    await copies.onSizeLessThan(16);
    // A file may be unreadable or vanish; any other serves as well.
    copies.add(() => copy(source)).catch(() => {});
    onProgress('copying real files', copied, CONTENT_BYTES);
  }
  await copies.onIdle();
  onProgress('mkfs.ext4', copied, CONTENT_BYTES);
  await writeFile(path, '');
  await truncate(path, IMAGE_BYTES);
  // Files and their folders each want an inode; the default is made for larger files than ours may be.
  const inodes = String(Math.max(32_768, files * 2));
  await run(mkfs, ['-q', '-F', '-N', inodes, '-d', staging, path], { env: environment(), signal });
  await rm(staging, { recursive: true, force: true });
  return files;
}

interface RealFile {
  /** As it is reached from here. */
  readonly source: string;
  /** What it takes in the file system, in bytes. */
  readonly size: number;
}

async function* realFiles(): AsyncGenerator<RealFile> {
  for (const folder of SOURCES) {
    let fromHere = 0;
    for await (const file of filesWithin(folder)) {
      fromHere += file.size;
      if (fromHere > SOURCE_BYTES) break;
      yield file;
    }
  }
}

async function* filesWithin(folder: string): AsyncGenerator<RealFile> {
  const entries: Dirent[] = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const source = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesWithin(source);
    else if (entry.isFile()) {
      const size = await stat(source).then(
        ({ size }) => size,
        () => 0,
      );
      if (size > 0 && size <= MAX_FILE_BYTES) {
        yield { source, size: Math.ceil(size / FILESYSTEM_BLOCK) * FILESYSTEM_BLOCK };
      }
    }
  }
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: [process.env.PATH, ...SYSTEM_PATH].join(':') };
}

async function findMkfs(): Promise<string> {
  if (await hasMkfs()) return 'mkfs.ext4';
  const isRoot = process.getuid?.() === 0;
  if (isRoot && (await has('apt-get', ['--version']))) {
    const options = { env: { ...environment(), DEBIAN_FRONTEND: 'noninteractive' } };
    await run('apt-get', ['update'], options).catch(() => {});
    await run('apt-get', ['install', '-y', '--no-install-recommends', 'e2fsprogs'], options).catch(() => {});
    if (await hasMkfs()) return 'mkfs.ext4';
  }
  throw new Error(
    'mkfs.ext4 is missing, which makes the image for this demonstration. Install e2fsprogs ' +
      '(apt-get install e2fsprogs, dnf install e2fsprogs, brew install e2fsprogs), or name an image file of your own.',
  );
}

function hasMkfs(): Promise<boolean> {
  return has('mkfs.ext4', ['-V']);
}

function has(command: string, args: string[]): Promise<boolean> {
  return run(command, args, { env: environment() }).then(
    () => true,
    () => false,
  );
}
