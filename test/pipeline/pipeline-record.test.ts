import { expect, test } from 'vitest';
import { BackupError, BackupPipeline, PipelineRecord } from '../../src/index.ts';
import { openSyncVolume } from '../volume/support/open-volume.ts';

test('a record in which any bit has changed, or that was cut off, is refused', async () => {
  const { volume } = await openSyncVolume(9);
  const pipeline = BackupPipeline.start(await volume.createSnapshot(), { store: () => {} }).sweep();
  const { record } = await pipeline.done;
  const encoded = await record.encode();
  expect(await (await PipelineRecord.decode(encoded)).encode()).toEqual(encoded);
  const accepted: string[] = [];
  const tryOut = async (what: string, bytes: Uint8Array) => {
    const error: unknown = await PipelineRecord.decode(bytes).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!BackupError.is(error, 'STATE_CORRUPT')) accepted.push(`${what}: ${String(error)}`);
  };
  for (let bit = 0; bit < encoded.length * 8; bit++) {
    const changed = encoded.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    await tryOut(`bit ${bit}`, changed);
  }
  for (let length = 0; length < encoded.length; length++) await tryOut(`${length} bytes`, encoded.subarray(0, length));
  expect(accepted).toEqual([]);
});

test('a record is decoded from the bytes of the call, a buffer or not', async () => {
  const { volume } = await openSyncVolume(9);
  const { record } = await BackupPipeline.start(await volume.createSnapshot(), { store: () => {} }).sweep().done;
  const encoded = await record.encode();
  for (const bytes of [Uint8Array.from(encoded), Buffer.from(encoded)]) {
    const decoding = PipelineRecord.decode(bytes);
    bytes.fill(0);
    expect(await (await decoding).encode()).toEqual(encoded);
  }
});
