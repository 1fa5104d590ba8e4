import { mkdtempSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, onTestFinished } from 'vitest';

/** A folder that is there for the running test only. */
export async function folderForTest(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cow-test-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A folder for all tests of a file, removed when they are over. */
export function folderForFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cow-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
