import { spawnSync } from 'node:child_process';
import type { TestProject } from 'vitest/node';
import { installPackages, sayingAtTheEnd, selectedFilesWith } from './selected-files.ts';

/**
 * A Python with the packages of the independent reader, for vitest's `globalSetup`: one that is installed, else one that
 * apt-get installs. If there is none, what needs it is skipped, which is said at the end of the run and is a failure under `CI`.
 * `COW_TEST_PYTHON=off` chooses that.
 */
declare module 'vitest' {
  interface ProvidedContext {
    /** The program; `null` where there is none. */
    python: string | null;
  }
}

const PACKAGES = ['python3', 'python3-cryptography', 'python3-msgpack', 'python3-zstandard'];
/** The second is Debian's, where another one comes first in the path. */
const PROGRAMS = ['python3', '/usr/bin/python3'];

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const files = await selectedFilesWith(project, "inject('python')");
  const python = files === 0 || process.env.COW_TEST_PYTHON === 'off' ? null : (usable() ?? install());
  project.provide('python', python);
  if (python !== null || files === 0) return undefined;
  return sayingAtTheEnd(
    `NO PYTHON WITH ${PACKAGES.slice(1).join(', ')}: the tests of the reader in Python are skipped.`,
  );
}

function usable(): string | null {
  const test = ['-c', 'import cryptography, msgpack, zstandard'];
  return PROGRAMS.find((program) => spawnSync(program, test).status === 0) ?? null;
}

function install(): string | null {
  return installPackages(PACKAGES, 'the reader in Python') ? usable() : null;
}
