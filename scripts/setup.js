/**
 * `npm ci`, unless node_modules has what package-lock.json names: so that `npm test` is all there is to do in a fresh
 * clone. Runs before anything is installed, on the Node that npm runs on.
 */
import { execSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const packages = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).packages;

function isInstalled() {
  try {
    const installed = packages('../node_modules/.package-lock.json'); // npm writes this file last.
    return Object.entries(packages('../package-lock.json')).every(
      ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
    );
  } catch {
    return false;
  }
}

if (!isInstalled()) {
  execSync('npm ci --no-audit --no-fund', { cwd: new URL('..', import.meta.url), stdio: 'inherit' });
}
