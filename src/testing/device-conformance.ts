import { functionArgument, optionsArgument } from '../common/arguments.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { ConformanceCase } from './conformance.ts';
import { CONFORMANCE_SIZE } from './device-cases.ts';
import { deviceLifetimeCases } from './device-lifetime-cases.ts';
import { deviceRangeCases, deviceZeroCases } from './device-range-cases.ts';
import { deviceTransferCases } from './device-transfer-cases.ts';

/** How {@link deviceConformance} opens and tests an adapter. @public */
export interface DeviceConformanceOptions {
  /**
   * Opens a device of at least `size` bytes (1 MiB) with any content. Each case opens one device, overwrites it unless it is
   * read-only, and disposes of it.
   */
  open(options: { size: number }): Promise<BlockDevice>;
}

/**
 * The obligations of `BlockDevice` as test cases, for the synchronous calls, too, if a device has them. Cases about capabilities that
 * a device lacks are skipped. A case hangs if a call never settles, so run them with a time limit.
 *
 * @example
 * ```ts
 * // In a test file of your own, with any runner that has tests with names: Vitest, node:test and others.
 * for (const { name, run } of deviceConformance({ open: async ({ size }) => new MemoryDevice(size) })) {
 *   test(name, (context) => run({ skip: () => context.skip() }));
 * }
 * ```
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
