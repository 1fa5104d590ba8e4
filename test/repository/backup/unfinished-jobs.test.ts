import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { folderForFile } from '../../support/folders.ts';

/** Programs that end while a job is open, each in a process of its own. */

const folder = folderForFile();

const library = pathToFileURL(join(import.meta.dirname, '../../../src/index.ts'));
const program = (end: string) => `
import { BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from '${library}';
const volume = await CopyOnWriteVolume.open(new MemoryDevice(1 << 20));
const repository = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', threads: 0 });
const job = await repository.startBackup(volume, { volume: 'disk' });
${end}
`;

test.each([
  ['has nothing left to do', '', 1],
  ['calls process.exit', 'process.exit(0);', 1],
  ['has closed its job', 'await job.close();', 0],
  ['has finished its job', 'await job.sweep().done;', 0],
])('a program that %s', async (_, end, warnings) => {
  const file = join(folder, `program-${Math.abs(end.length)}.mjs`);
  writeFileSync(file, program(end));
  // A job that kept the process alive would run into the time limit.
  const { stderr } = await promisify(execFile)(process.execPath, [file], { timeout: 20_000 });
  expect(stderr.split('COW_BACKUP_UNFINISHED').length - 1).toBe(warnings);
  if (warnings > 0) expect(stderr).toMatch(/backups are under way, and they are lost: "disk" \(lazy\); call sweep/);
});
