import type { BlockDevice } from '../device/block-device.ts';

/** One of the device suite's cases, as it is written down. */
export interface DeviceCase {
  readonly name: string;
  /** Why a device can't be asked this, `undefined` when it can. */
  lacks?(device: BlockDevice): string | undefined;
  run(device: BlockDevice): Promise<void>;
}
