/** A process of its own that has pre-images in a spill file, and then waits to be killed. Argument: the file. */
import { CopyOnWriteVolume, MemoryDevice } from '../../../src/index.ts';

const spillPath = process.argv[2] as string;
const volume = await CopyOnWriteVolume.open(new MemoryDevice(1024 * 1024), { preserve: { memoryBytes: 0, spillPath } });
await volume.write(0, new Uint8Array(1024 * 1024).fill(1));
const snapshot = await volume.createSnapshot();
await volume.write(0, new Uint8Array(1024 * 1024).fill(2));
const content = new Uint8Array(1024 * 1024);
await snapshot.read(0, content);
console.log(`${snapshot.states.counts.preserved} blocks are spilled, full of ${content[0]}`);
setInterval(() => {}, 1000);
