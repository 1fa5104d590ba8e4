import type { LogFact } from '../../../../src/repository/format/log-entry.ts';
import { LogReader, type LogReaderOptions } from '../../../../src/repository/log/log-reader.ts';
import type { LogSource } from '../../../../src/repository/log/log-source.ts';
import { LogWriter, type LogWriterOptions } from '../../../../src/repository/log/log-writer.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import type { TargetOperation } from '../../../../src/targets/decorators/forwarding-target.ts';
import { MemoryTarget } from '../../../../src/targets/memory-target.ts';
import { type FaultPlan, scriptedFaults } from '../../../../src/testing/faults.ts';
import { FaultyTarget } from '../../../../src/testing/faulty-target.ts';

export const LOG_KEY = Uint8Array.from({ length: 32 }, (_, index) => index);

export function sourceOf(target: CloudTarget, options: Partial<Omit<LogSource, 'target'>> = {}): LogSource {
  return { target, logKey: undefined, mode: 'shared', ...options };
}

export interface HostOptions extends LogWriterOptions, LogReaderOptions {
  logKey?: Uint8Array | undefined;
  mode?: LogSource['mode'];
}

/** A host that has the log open, and never waits. */
export async function host(target: CloudTarget, options: HostOptions = {}): Promise<LogWriter> {
  const { logKey, mode = 'shared' } = options;
  const reader = await LogReader.open(sourceOf(target, { logKey, mode }), options);
  return new LogWriter(reader, { sleep: async () => {}, random: () => 0, ...options });
}

/** Every call is counted; faults as planned. */
export function counted(inner: CloudTarget, plan: FaultPlan<TargetOperation> = scriptedFaults([])): FaultyTarget {
  return new FaultyTarget(inner, plan);
}

/** A log with these facts in it. */
export async function logOf(facts: readonly LogFact[], options: HostOptions = {}): Promise<MemoryTarget> {
  const target = new MemoryTarget();
  const writer = await host(target, options);
  for (const fact of facts) await writer.append(() => fact);
  return target;
}

/** All objects of a target. */
export async function objectsOf(target: CloudTarget): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const objects = new Map<string, Uint8Array<ArrayBuffer>>();
  for await (const { key } of target.list('')) objects.set(key, Uint8Array.from(await target.get(key)));
  return objects;
}

/** A target with these objects. */
export async function targetOf(objects: ReadonlyMap<string, Uint8Array<ArrayBuffer>>): Promise<MemoryTarget> {
  const target = new MemoryTarget();
  for (const [key, body] of objects) await target.put(key, body);
  return target;
}
