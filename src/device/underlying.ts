import type { BlockDevice } from './block-device.ts';

/**
 * A device that passes its I/O on to another one may tell which, under this key. A group of volumes is held at one
 * instant; a volume that stands on another one of the group would wait for itself, and is found out by this.
 *
 * @public
 */
export const underlyingDevice: unique symbol = Symbol.for('cow-cloud-backup.underlyingDevice') as never;

/** A device that passes its I/O on to `[underlyingDevice]`. @public */
export interface WrappingDevice {
  readonly [underlyingDevice]: BlockDevice;
}

/** `device` and everything that it is known to stand on, outermost first. */
export function* deviceStack(device: BlockDevice): Generator<BlockDevice> {
  const seen = new Set<BlockDevice>();
  let next: BlockDevice | undefined = device;
  while (next !== undefined && !seen.has(next)) {
    seen.add(next);
    yield next;
    next = (next as Partial<WrappingDevice>)[underlyingDevice];
  }
}
