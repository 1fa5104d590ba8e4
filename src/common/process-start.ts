import { readFileSync, readlinkSync } from 'node:fs';

/** When processes were started, where the system tells: on Linux. A number alone says little of a process, it is used again. */

/** Of the fields after the process's name, which may itself hold blanks and brackets. */
const START_FIELD = 19;

let boot: string | undefined | null = null;

/** What tells one run of this machine's kernel from another. */
export function bootId(): string | undefined {
  if (boot === null) boot = contentOf('/proc/sys/kernel/random/boot_id')?.trim();
  return boot;
}

/** When a process was started, in ticks since the machine was. `undefined` where it is not there or the system does not tell. */
export function startOf(processId: number): string | undefined {
  const stat = contentOf(`/proc/${processId}/stat`);
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
