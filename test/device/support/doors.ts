import type { BlockDevice } from '../../../src/device/block-device.ts';
import { turn } from '../../support/turn.ts';

/** A device's asynchronous door alone, which takes a turn of the event loop for every read and write. */
export function asyncOnly(device: BlockDevice): BlockDevice & { close(): Promise<void> } {
  const { discard, writeZeroes, extents } = device;
  return {
    size: device.size,
    sectorSize: device.sectorSize,
    readOnly: device.readOnly,
    maxTransferBytes: device.maxTransferBytes,
    async read(offset, into, options) {
      options?.signal?.throwIfAborted();
      await turn();
      await device.read(offset, into);
    },
    async write(offset, from, options) {
      options?.signal?.throwIfAborted();
      await turn();
      await device.write(offset, from);
    },
    flush: (options) => device.flush(options),
    ...(discard && { discard: discard.bind(device) }),
    ...(writeZeroes && { writeZeroes: writeZeroes.bind(device) }),
    ...(extents && { extents: extents.bind(device) }),
    close: async () => device[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: () => device[Symbol.asyncDispose](),
  };
}

/** The same, taking no more than `maxTransferBytes` a call: what asks for more is refused as a defect. */
export function limited(device: BlockDevice, maxTransferBytes: number): BlockDevice & { close(): Promise<void> } {
  const inner = asyncOnly(device);
  const check = (length: number) => {
    if (length > maxTransferBytes) throw new Error(`a call of ${length} bytes, more than ${maxTransferBytes}`);
  };
  return {
    ...inner,
    maxTransferBytes,
    async read(offset, into, options) {
      if (offset + into.length <= device.size) check(into.length);
      await inner.read(offset, into, options);
    },
    async write(offset, from, options) {
      if (offset + from.length <= device.size) check(from.length);
      await inner.write(offset, from, options);
    },
  };
}
