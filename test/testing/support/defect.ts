import type { MemoryDevice } from '../../../src/device/memory-device.ts';

/** What may be wrong with a device, the case that has to find it, and such a device. */
export type Defect = readonly [defect: string, found: RegExp, open: (size: number) => MemoryDevice];
