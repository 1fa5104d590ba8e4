import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';
import type { S3Announcement, S3Endpoint } from './s3-endpoint.ts';
import { installPackages, sayingAtTheEnd, selectedFilesWith } from './selected-files.ts';

/**
 * The services that tests talk to, for vitest's `globalSetup`: an S3 server, the first of these that is to be had.
 *
 * 1. `COW_TEST_S3_ENDPOINT` (a URL), with `COW_TEST_S3_ACCESS_KEY` and `COW_TEST_S3_SECRET_KEY`;
 * 2. a Ceph RADOS Gateway of this machine, started for the run, which takes some 15 seconds: the tests that need none run meanwhile;
 * 3. the same, installed by apt-get, when this is Debian and we are root;
 * 4. none: what needs it is skipped, which is said at the end of the run and is a failure under `CI`.
 *
 * `COW_TEST_S3=off` chooses the last. Nothing is started when none of the selected files needs it.
 */
const run = promisify(execFile);
const BINARIES = ['radosgw', 'radosgw-admin', 'ceph', 'ceph-mon', 'ceph-osd', 'ceph-authtool', 'monmaptool', 'curl'];
const PACKAGES = ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-common', 'curl'];
const SCRIPT = join(import.meta.dirname, 'ceph-rgw.sh');

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const files = await selectedFilesWith(project, 'support/s3.ts');
  if (files === 0) {
    project.provide('s3', null);
    return undefined;
  }
  if (process.env.COW_TEST_S3 === 'off') return without(project, files, 'COW_TEST_S3=off');
  const given = endpointOfEnvironment();
  if (given !== undefined) {
    project.provide('s3', given);
    return undefined;
  }
  if (!isInstalled() && !install())
    return without(project, files, `none of ${PACKAGES.join(', ')} can be installed here`);
  return startMeanwhile(project);
}

/** Starts the gateway without waiting for it. */
async function startMeanwhile(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'cow-s3-'));
  const announcedIn = join(folder, 'announcement.json');
  const announce = async (announcement: S3Announcement) => {
    await writeFile(`${announcedIn}.new`, JSON.stringify(announcement));
    await rename(`${announcedIn}.new`, announcedIn);
  };
  const starting = startGateway().then(
    async ({ endpoint, stop }) => {
      await announce({ endpoint });
      return stop;
    },
    async (error) => {
      await announce({ failure: String(error.cause ?? error) });
      return async () => {};
    },
  );
  project.provide('s3', { announcedIn });
  return async () => {
    const stop = await starting;
    await stop();
    await rm(folder, { recursive: true, force: true });
  };
}

function without(project: TestProject, files: number, why: string): () => Promise<void> {
  const message = `NO S3 SERVER (${why}): ${files} test file${files === 1 ? '' : 's'} skipped what needs it.`;
  const atTheEnd = sayingAtTheEnd(message);
  project.provide('s3', null);
  return atTheEnd;
}

function endpointOfEnvironment(): S3Endpoint | undefined {
  const {
    COW_TEST_S3_ENDPOINT: endpoint,
    COW_TEST_S3_ACCESS_KEY: accessKey,
    COW_TEST_S3_SECRET_KEY: secretKey,
  } = process.env;
  if (!endpoint) return undefined;
  if (!accessKey || !secretKey) {
    throw new Error('COW_TEST_S3_ENDPOINT needs COW_TEST_S3_ACCESS_KEY and COW_TEST_S3_SECRET_KEY beside it');
  }
  return { ...addressOf(endpoint), accessKey, secretKey };
}

function addressOf(endpoint: string): Pick<S3Endpoint, 'endPoint' | 'port' | 'useSSL'> {
  const url = new URL(endpoint);
  const useSSL = url.protocol === 'https:';
  return { endPoint: url.hostname, port: Number(url.port) || (useSSL ? 443 : 80), useSSL };
}

function isInstalled(): boolean {
  return BINARIES.every((name) => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0);
}

function install(): boolean {
  return installPackages(PACKAGES, 'the S3 tests') && isInstalled();
}

async function startGateway(): Promise<{ endpoint: S3Endpoint; stop: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'cow-rgw-'));
  const stop = async () => {
    await run(SCRIPT, ['stop', folder]);
    await rm(folder, { recursive: true, force: true });
  };
  let failure: unknown;
  // Between finding ports and using them somebody else may take one.
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const port = await threeFreePorts();
      const { stdout } = await run(SCRIPT, ['start', folder, String(port), String(process.pid)], { timeout: 240_000 });
      const endpoint = { ...addressOf(stdout.trim()), accessKey: 'minioadmin', secretKey: 'minioadmin' };
      return { endpoint, stop };
    } catch (error) {
      failure = error;
      await stop();
    }
  }
  throw new Error('the S3 gateway could not be started', { cause: failure });
}

async function threeFreePorts(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    const free = await Promise.all([first, first + 1, first + 2].map(isFree));
    if (free.every(Boolean)) return first;
  }
  throw new Error('no three free ports in a row');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
