// Encrypts a repository with two keys: one of the server, and a passphrase in a safe for the day the server is lost.
import { randomBytes } from 'node:crypto';
import { BackupError, BackupRepository, CopyOnWriteVolume, MemoryDevice, MemoryTarget } from 'cow-cloud-backup';

await using target = new MemoryTarget();
const server = { key: new Uint8Array(randomBytes(32)) }; // Keep it where the server keeps its secrets.
const safe = { passphrase: 'correct horse battery staple' };

{
  // On the server.
  await using repository = await BackupRepository.create(target, { encryption: server });
  await repository.keys.add(safe);
  await using volume = await CopyOnWriteVolume.open(new MemoryDevice(Buffer.from('the content of the disk')));
  await repository.backup(volume, { volume: 'disk' });
}

// The server was stolen. Somebody has fetched the passphrase.
await using repository = await BackupRepository.open(target, { unlock: safe });
const backup = await repository.latestBackup('disk');
await using image = await repository.openBackup(backup!.id);
const content = Buffer.alloc(image.size);
await image.read(0, content);
console.log(`Read with the passphrase: ${content}`);

// Each of your keys opens a slot that holds the repository's own key. Remove the stolen one's and add a new one.
const [stolen] = (await repository.keys.list()).filter(({ kind }) => kind === 'key');
await repository.keys.remove(stolen!.id);
await repository.keys.add({ key: new Uint8Array(randomBytes(32)) });
for (const { id, kind } of await repository.keys.list()) console.log(`Key slot ${id} is opened by a ${kind}.`);

// It opens nothing any more, unless the thief has copied the slot before: withdraw the access to the store as well.
const error = await BackupRepository.open(target, { unlock: server }).catch((error: unknown) => error);
console.log(`With the stolen key: ${BackupError.is(error) ? error.code : 'still open'}`);
