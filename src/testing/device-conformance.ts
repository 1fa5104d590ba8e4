import { functionArgument, optionsArgument } from '../common/arguments.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { ConformanceCase } from './conformance.ts';
import { CONFORMANCE_SIZE } from './device-doors.ts';
import { deviceLifetimeCases } from './device-lifetime-cases.ts';
import { deviceRangeCases } from './device-range-cases.ts';
import { deviceTransferCases } from './device-transfer-cases.ts';
import { deviceZeroCases } from './device-zero-cases.ts';

/** How {@link deviceConformance} opens and tests an adapter. @public */
export interface DeviceConformanceOptions {
  /**
   * Opens a device of at least `size` bytes (1 MiB), with any content. Each case opens one, overwrites it unless it is
   * read-only, and disposes of it.
   */
  open(options: { size: number }): Promise<BlockDevice>;
}

/**
 * The obligations of `BlockDevice` as test cases, for one's own devices as well: both doors where there are two. They
 * skip by capability. A device that never settles a call lets its case hang, so run them with a time limit.
 *
 * @public
 */
export function deviceConformance(options: DeviceConformanceOptions): readonly ConformanceCase[] {
  functionArgument('options.open', optionsArgument('options', options ?? null, { open: true }).open);
  const cases = [...deviceRangeCases, ...deviceTransferCases, ...deviceZeroCases, ...deviceLifetimeCases];
  return cases.map((deviceCase) => ({
    name: deviceCase.name,
    async run(context) {
      const device = await options.open({ size: CONFORMANCE_SIZE });
      try {
        const reason = deviceCase.lacks?.(device);
        if (reason === undefined) await deviceCase.run(device);
        else context.skip(reason);
      } finally {
        await device[Symbol.asyncDispose]();
      }
    },
  }));
}
