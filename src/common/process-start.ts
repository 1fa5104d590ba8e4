import { readFileSync, readlinkSync } from 'node:fs';

/**
 * When processes were started, which identifies them: a process id alone is used again. Only Linux provides it; elsewhere the
 * functions return `undefined`.
 */

/** The index of the start time among the fields of `/proc/PID/stat` that follow the process's name. */
const START_FIELD = 19;

let boot: string | undefined | null = null;

/** The id of this machine's current boot. */
export function bootId(): string | undefined {
  if (boot === null) boot = contentOf('/proc/sys/kernel/random/boot_id')?.trim();
  return boot;
}

/** When a process was started, in clock ticks since the boot; `undefined` if there is no such process, too. */
export function startOf(processId: number): string | undefined {
  const stat = contentOf(`/proc/${processId}/stat`);
  // The name is in brackets and may hold blanks and brackets itself.
  return stat
    ?.slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .at(START_FIELD);
}

/** The namespace of this process's id: processes of other namespaces, as in other containers, can't be looked up. */
export function processNamespace(): string | undefined {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0];
  } catch {
    return undefined; // Not Linux, or a system that hides it.
  }
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
