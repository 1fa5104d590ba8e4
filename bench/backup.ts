/**
 * Whole backups through `BackupRepository` into a folder: how much memory they take, how long, and what they upload.
 * Each backup has a process of its own, so that its peak of resident memory is its own. Build first: it measures `dist/`.
 *
 *     npm run build && node bench/backup.ts [GiB of the volume ...]      (default: 4 16 64)
 *
 * The first size is also run with half of it filled with data; the others are sparse but for 1 GiB of it. Last comes what
 * a backup of incompressible data takes beyond the data itself: seals, footers, map and log.
 */
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupRepository, CopyOnWriteVolume, FileDevice, FileTarget } from 'cow-cloud-backup';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const BLOCK = 64 * 1024;
const CHUNK = 16 * MIB;

interface Report {
  readonly seconds: number;
  readonly uploadedBytes: number;
  readonly requests: number;
  readonly peakRssBytes: number;
  readonly incremental: {
    readonly seconds: number;
    readonly readBytes: number;
    readonly uploadedBytes: number;
    readonly requests: number;
  };
}

/** Data spread over the volume; of every 128 bytes so many are noise, and the rest compresses well. */
async function makeImage(path: string, sizeBytes: number, dataBytes: number, noise: number): Promise<void> {
  await using file = await open(path, 'w');
  await file.truncate(sizeBytes);
  const chunk = Buffer.alloc(CHUNK);
  const chunks = Math.floor(dataBytes / CHUNK);
  for (let n = 0; n < chunks; n++) {
    for (let at = 0; at < CHUNK; at += 128) {
      randomFillSync(chunk, at, noise);
      chunk.fill((at >>> 7) & 0xff, at + noise, at + 128);
    }
    await file.write(chunk, 0, CHUNK, Math.floor((n * (sizeBytes / CHUNK)) / chunks) * CHUNK);
  }
}

async function backUp(folder: string, changedPart: number): Promise<Report> {
  await using device = await FileDevice.open(join(folder, 'image'));
  await using volume = await CopyOnWriteVolume.open(device);
  const target = new FileTarget(join(folder, 'repository'));
  await using repository = await BackupRepository.create(target, { encryption: { key: new Uint8Array(32).fill(1) } });
  const timed = async () => {
    const began = performance.now();
    const { uploadedBytes, requests, readBytes } = await repository.backup(volume, { volume: 'image' });
    return { seconds: (performance.now() - began) / 1000, uploadedBytes, requests, readBytes };
  };
  const { seconds, uploadedBytes, requests } = await timed();
  const blocks = volume.size / BLOCK;
  for (let n = 0; n < blocks * changedPart; n++) {
    await volume.write(Math.floor(Math.random() * blocks) * BLOCK, randomFillSync(new Uint8Array(BLOCK)));
  }
  const incremental = await timed();
  return { seconds, uploadedBytes, requests, incremental, peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}

async function measure(sizeBytes: number, dataBytes: number, noise = 64): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-backup-'));
  try {
    await makeImage(join(folder, 'image'), sizeBytes, dataBytes, noise);
    const child = spawnSync(process.execPath, ['--no-warnings', import.meta.filename, 'child', folder], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return JSON.parse(child.stdout) as Report;
  } finally {
    await rm(folder, { recursive: true });
  }
}

function print(sizeBytes: number, dataBytes: number, report: Report): void {
  const { seconds, incremental } = report;
  const cells = [
    `${sizeBytes / GIB} GiB`,
    `${(dataBytes / GIB).toFixed(1)} GiB`,
    `${(report.peakRssBytes / MIB).toFixed(0)} MiB`,
    `${seconds.toFixed(1)} s`,
    `${(sizeBytes / MIB / seconds).toFixed(0)} MiB/s`,
    `${(report.uploadedBytes / MIB).toFixed(0)} MiB`,
    `${report.requests}`,
    `${(incremental.readBytes / MIB).toFixed(1)} MiB`,
    `${(incremental.uploadedBytes / MIB).toFixed(1)} MiB`,
    `${incremental.requests}`,
    `${incremental.seconds.toFixed(2)} s`,
  ];
  console.log(cells.map((cell) => cell.padStart(11)).join(''));
}

if (process.argv[2] === 'child') {
  console.log(JSON.stringify(await backUp(process.argv[3] as string, 0.001)));
} else {
  const sizes = process.argv.slice(2).map(Number);
  const [first = 4, ...others] = sizes.length > 0 ? sizes : [4, 16, 64];
  const titles = [
    'volume',
    'data',
    'peak RSS',
    'full',
    '',
    'uploaded',
    'requests',
    '0.1 % read',
    'uploaded',
    'requests',
    'time',
  ];
  console.log(titles.map((title) => title.padStart(11)).join(''));
  print(first * GIB, (first * GIB) / 2, await measure(first * GIB, (first * GIB) / 2));
  for (const size of [first, ...others]) {
    const dataBytes = Math.min(size / 4, 1) * GIB;
    print(size * GIB, dataBytes, await measure(size * GIB, dataBytes));
  }
  const { uploadedBytes } = await measure(GIB, GIB, 128);
  console.log(
    `beyond 1 GiB of incompressible data: ${(((uploadedBytes - GIB) / GIB) * 100).toFixed(3)} % (goal: 0.2 %)`,
  );
}
