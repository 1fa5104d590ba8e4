/**
 * Runs a module of the built library in a context of its own, as Jest does: its `Uint8Array`, `Error` and `Promise` are not
 * those of Node, whose buffers, errors and promises come from another realm. `node --experimental-vm-modules in-a-realm.ts DIST FOLDER`
 */
import { existsSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import vm from 'node:vm';

const [, , dist = '', folder = ''] = process.argv;

const PROGRAM = `
import { BackupError, BackupRepository, CopyOnWriteVolume, FileDevice, FileTarget, MemoryDevice, fanOut } from './index.js';
if (new Uint8Array() instanceof outer.Uint8Array || outer.Buffer.alloc(1) instanceof Uint8Array) throw new Error('one realm');
const must = (condition, what) => { if (!condition) throw new Error(what); };
const codeOf = (promise) => promise.then(() => 'none', (error) => error.code);

const target = new FileTarget(folder + '/backups');
must(await codeOf(target.get('absent')) === 'OBJECT_NOT_FOUND', 'get of nothing');
must(await codeOf(FileDevice.open(folder + '/absent.img')) === 'DEVICE_NOT_FOUND', 'no image');
const key = new Uint8Array(32).fill(7);
await using repository = await BackupRepository.open(fanOut(target, [new FileTarget(folder + '/replica')]), {
  unlock: { key }, createIfMissing: { encryption: { key } },
});
await using image = await FileDevice.open(folder + '/disk.img', { create: { sizeBytes: 1 << 20 } });
await using volume = await CopyOnWriteVolume.open(image, { blockSize: 4096 });
await volume.write(8192, new Uint8Array(4096).fill(5));
await volume.write(0, outer.Buffer.alloc(4096, 6));
const first = await repository.backup(volume, { volume: 'disk' });
await volume.write(0, new Uint8Array(4096).fill(9));
await using snapshot = await volume.createSnapshot();
const second = await repository.backup(snapshot, { volume: 'disk' });
const copy = new MemoryDevice(first.size);
await repository.restore(first.id, copy);
must(copy.bytes[0] === 6 && copy.bytes[8192] === 5 && copy.bytes[4096] === 0, 'what was restored');
const { ok, verifiedPacks } = await repository.verify({ depth: 'data' });
must(ok && verifiedPacks > 0, 'verify');
must((await repository.estimate({ backup: { source: volume, volume: 'disk' } })).uploadBytes >= 0, 'estimate');
await repository.forget([first.id]);
await repository.prune();
await using again = await BackupRepository.open(new FileTarget(folder + '/backups'), { unlock: { key: outer.Buffer.alloc(32, 7) } });
const ids = [];
for await (const { id } of again.listBackups()) ids.push(id);
must(ids.length === 1 && ids[0] === second.id, 'what is listed');
must(await codeOf(new FileTarget(folder + '/backups').put('../x', new Uint8Array(1))) === 'INVALID_KEY', 'a key');
must(BackupError.is(await target.get('absent').catch((error) => error), 'OBJECT_NOT_FOUND'), 'the class');
outer.done();
`;

const names = Object.getOwnPropertyNames(globalThis);
// Of the realm itself: what the language has. All else is Node's, and is handed over.
const own = new Set(vm.runInNewContext('Object.getOwnPropertyNames(globalThis)') as string[]);
const context = vm.createContext({ folder, outer: { Uint8Array, Buffer, done: () => process.stdout.write('done\n') } });
for (const name of names) {
  if (!own.has(name)) Object.defineProperty(context, name, { value: Reflect.get(globalThis, name), writable: true });
}

const modules = new Map<string, Promise<vm.Module>>();

async function foreign(specifier: string): Promise<vm.Module> {
  const exports: Record<string, unknown> = await import(specifier);
  const keys = Object.keys(exports);
  return new vm.SyntheticModule(
    keys,
    function (this: vm.SyntheticModule) {
      for (const key of keys) this.setExport(key, exports[key]);
    },
    { context, identifier: specifier },
  );
}

function moduleAt(url: string, source?: string): Promise<vm.Module> {
  let found = modules.get(url);
  if (found === undefined) {
    const made: vm.SourceTextModule = new vm.SourceTextModule(source ?? readFileSync(fileURLToPath(url), 'utf8'), {
      context,
      identifier: url,
      initializeImportMeta: (meta) => {
        meta.url = url;
      },
      importModuleDynamically: (specifier): Promise<never> => link(specifier, made) as Promise<never>,
    });
    found = Promise.resolve(made);
    modules.set(url, found);
  }
  return found;
}

async function link(specifier: string, from: vm.Module): Promise<vm.Module> {
  if (specifier.startsWith('.')) {
    const url = new URL(specifier, from.identifier).href;
    return isModule(url) ? moduleAt(url) : foreign(url);
  }
  if (isBuiltin(specifier)) return foreign(specifier);
  // Packages are loaded in the realm too, as Jest does.
  const url = import.meta.resolve(specifier);
  return isModule(url) ? moduleAt(url) : foreign(url);
}

/** Whether a file is no CommonJS. */
function isModule(url: string): boolean {
  if (/\.[mc]js$/.test(url)) return url.endsWith('.mjs');
  for (let folder = new URL('.', url); folder.pathname !== '/'; folder = new URL('..', folder)) {
    const manifest = new URL('package.json', folder);
    if (existsSync(manifest)) return JSON.parse(readFileSync(manifest, 'utf8')).type === 'module';
  }
  return false;
}

const main = await moduleAt(pathToFileURL(`${dist}/program.js`).href, PROGRAM);
await main.link(link);
await main.evaluate();
