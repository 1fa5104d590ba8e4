/**
 * Installs what package-lock.json names unless it is installed already, so that `npm test` and `npm run demo` are all
 * there is to do in a fresh clone. Plain JavaScript and nothing but built-ins: it runs before anything is installed, on
 * whatever Node there is. Says nothing when there is nothing to do.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Outside of node_modules, which an installation takes away. */
const lockPath = join(
  tmpdir(),
  `cow-cloud-backup-setup-${createHash('sha256').update(root).digest('hex').slice(0, 16)}`,
);
const LOOK_AGAIN_MS = 200;

if (!isInstalled()) {
  acquireLock();
  try {
    // Somebody else may have been at it meanwhile.
    if (!isInstalled()) install();
  } finally {
    rmSync(lockPath, { force: true });
  }
}

/** Whether npm's own record of what it has installed agrees with the lock file. npm writes it when it is done. */
function isInstalled() {
  const installed = packagesOf(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return false;
  const wanted = packagesOf(join(root, 'package-lock.json')) ?? {};
  const names = new Set([...Object.keys(wanted), ...Object.keys(installed)]);
  names.delete(''); // The package itself is in the one and not in the other.
  return [...names].every((name) => {
    const [is, ought] = [installed[name], wanted[name]];
    // What is optional depends on the platform: it may be in either and not in the other.
    if (is === undefined || ought === undefined) return (is ?? ought).optional === true;
    return is.version === ought.version && is.integrity === ought.integrity && existsSync(join(root, name));
  });
}

function packagesOf(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return undefined; // Not there, or cut short.
  }
}

/**
 * Not `npm ci`, which refuses a lock file that was made where a registry has the optional packages of some platforms
 * only. This installs the versions of the lock file too, and leaves it as it is.
 */
function install() {
  const args = ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'];
  // The npm that runs this, on the Node that runs it: the one in node_modules may be about to go.
  const { npm_execpath: npm, npm_node_execpath: node = process.execPath } = process.env;
  const { status, error } = npm?.endsWith('.js')
    ? spawnSync(node, [npm, ...args], { cwd: root, stdio: 'inherit' })
    : spawnSync(`npm ${args.join(' ')}`, { cwd: root, stdio: 'inherit', shell: true });
  if (error !== undefined) throw error;
  if (status !== 0) {
    console.error('The dependencies could not be installed; see above.');
    process.exitCode = status ?? 1;
  }
}

/** Waits until no other process of this machine installs into this folder. */
function acquireLock() {
  for (let isFirst = true; ; isFirst = false) {
    try {
      writeFileSync(lockPath, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (isFirst) console.error('Another process is installing the dependencies; waiting for it.');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_AGAIN_MS);
    if (isAbandoned()) rmSync(lockPath, { force: true });
  }
}

/** Whether the process that took the lock is no more. */
function isAbandoned() {
  try {
    process.kill(Number(readFileSync(lockPath, 'utf8')) || Number.NaN, 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}
