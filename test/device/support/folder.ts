import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A folder for one test file's images, removed when its tests are over. */
export function testFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cow-cloud-backup-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
