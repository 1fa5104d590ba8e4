// Sends blocks, compressed and encrypted, to an HTTP endpoint of your own that is busy at first, and restores from it.
import { randomBytes, randomFillSync } from 'node:crypto';
import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import {
  BackupPipeline,
  CopyOnWriteVolume,
  compression,
  encryption,
  MemoryDevice,
  PipelineRecord,
  restoreBlocks,
} from 'cow-cloud-backup';

// The endpoint: PUT and GET of /blocks/:run/:block. Its first requests are answered with 503.
const bodies = new Map<string | undefined, Buffer>();
let refusals = 5;
const server = createServer(async (request, response) => {
  const body = await buffer(request);
  if (refusals-- > 0) response.writeHead(503);
  else if (request.method === 'PUT') bodies.set(request.url, body);
  else if (bodies.has(request.url)) response.write(bodies.get(request.url));
  else response.writeHead(404);
  response.end();
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/blocks/1`;
async function send(block: number | 'record', request: RequestInit): Promise<Uint8Array> {
  const response = await fetch(`${url}/${block}`, request);
  const body = await response.arrayBuffer();
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
  return new Uint8Array(body);
}

await using device = new MemoryDevice(randomFillSync(new Uint8Array(8 * 1024 * 1024), 0, 4 * 1024 * 1024));
await using volume = await CopyOnWriteVolume.open(device);
const transforms = [compression(), encryption(randomBytes(32), { context: 'run 1' })]; // Keep the key elsewhere.
await using snapshot = await volume.createSnapshot();
await using pipeline = BackupPipeline.start(snapshot, {
  store: (block, body, { signal }) => send(block, { method: 'PUT', body, signal }),
  // The record goes last. It says where the blocks are, and nothing of what is in them, so it is not encrypted.
  storeRecord: async (record, { signal }) => send('record', { method: 'PUT', body: await record.encode(), signal }),
  transforms,
});
pipeline.events.on('attemptFailed', (_block, error) => console.log(`It will be sent again: ${error}`));
const { record, storedBlocks } = await pipeline.sweep().done;
console.log(`Sent ${storedBlocks} of ${record.states.blockCount} blocks; the others are zeroes.`);

const kept = await PipelineRecord.decode(await send('record', { method: 'GET' }));
const copy = new MemoryDevice(kept.size);
await restoreBlocks(kept, copy, { load: (block, { signal }) => send(block, { method: 'GET', signal }), transforms });
console.log(`The copy is ${Buffer.compare(copy.bytes, device.bytes) === 0 ? 'equal' : 'DIFFERENT'}.`);
server.close();
