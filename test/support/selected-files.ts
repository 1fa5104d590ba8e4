import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { TestProject } from 'vitest/node';

/** How many of the selected test files have a text in them, such as the import of a service's support. */
export async function selectedFilesWith(project: TestProject, text: string): Promise<number> {
  // Internal to vitest. Without it every file counts as selected, which costs time and nothing else.
  const { filenamePattern } = project.vitest as { filenamePattern?: string[] };
  const { testFiles } = await project.globTestFiles(filenamePattern);
  const texts = await Promise.all(testFiles.map((file) => readFile(file, 'utf8')));
  return texts.filter((content) => content.includes(text)).length;
}

/** Says at the end of the run that something was skipped; under `CI` that is a failure. */
export function sayingAtTheEnd(message: string): () => Promise<void> {
  if (process.env.CI) throw new Error(`${message} Under CI that is a failure.`);
  return async () => console.warn(`\n  ${'!'.repeat(message.length)}\n  ${message}\n  ${'!'.repeat(message.length)}\n`);
}

/** Installs packages by apt-get, which needs Debian and root. */
export function installPackages(packages: readonly string[], what: string): boolean {
  if (process.getuid?.() !== 0 || spawnSync('sh', ['-c', 'command -v apt-get']).status !== 0) return false;
  console.warn(`installing ${packages.join(', ')} for ${what} ...`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args: string[]) => spawnSync('apt-get', args, { env, timeout: 600_000 }).status === 0;
  const wanted = ['install', '-y', '--no-install-recommends', ...packages];
  return apt(...wanted) || (apt('update') && apt(...wanted));
}
