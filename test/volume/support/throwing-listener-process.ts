/** A host with a mistake in a listener. Argument `catch`: it looks after what is uncaught. */
import { CopyOnWriteVolume, MemoryDevice } from '../../../src/index.ts';

const order: string[] = [];
if (process.argv[2] === 'catch') {
  process.on('uncaughtException', (error, origin) => order.push(`${origin}: ${error.message}`));
}
const volume = await CopyOnWriteVolume.open(new MemoryDevice(4096), { blockSize: 4096 });
await volume.write(0, new Uint8Array(4096).fill(1));
const snapshot = await volume.createSnapshot();
volume.events.on('blockPreserved', () => {
  throw new Error("the host's mistake");
});
volume.events.on('blockPreserved', () => order.push('the next listener is called'));
await volume.write(0, new Uint8Array(4096).fill(2));
order.push('the write has resolved');
volume.writeSync(0, new Uint8Array(4096).fill(3));
const content = new Uint8Array(4096);
await snapshot.read(0, content);
order.push(`the snapshot reads ${content[0]}, the volume ${(await contentOfVolume())[0]}`);
await new Promise((resolve) => setImmediate(resolve));
console.log(JSON.stringify(order));

async function contentOfVolume(): Promise<Uint8Array> {
  const into = new Uint8Array(4096);
  await volume.read(0, into);
  return into;
}
