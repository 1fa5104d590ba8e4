/**
 * For authors of devices and targets: conformance suites that say whether one keeps its obligations, and faulty ones to
 * see how a host takes it when it does not. They belong to no test runner.
 *
 * @packageDocumentation
 */

export type { ConformanceCase, ConformanceContext } from './testing/conformance.ts';
export { ConformanceError } from './testing/conformance.ts';
export { type DeviceConformanceOptions, deviceConformance } from './testing/device-conformance.ts';
export {
  type Fault,
  type FaultCall,
  type FaultedCall,
  type FaultKind,
  type FaultPlan,
  type FaultRule,
  type SeededFaultsOptions,
  scriptedFaults,
  seededFaults,
} from './testing/faults.ts';
export {
  type DeviceOperation,
  type FaultedDeviceCall,
  FaultyDevice,
  type FaultyDeviceConstructor,
  type FaultyDeviceOptions,
} from './testing/faulty-device.ts';
export { FaultyTarget, type FaultyTargetOptions } from './testing/faulty-target.ts';
export { freshSeed, type RandomSource, randomBytesFrom, seededRandom } from './testing/seeded-random.ts';
export { type TargetConformanceOptions, targetConformance } from './testing/target-conformance.ts';
