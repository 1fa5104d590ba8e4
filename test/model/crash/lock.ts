/**
 * Who may open a state directory. Containers restart their process, and each process is number 1 in its container. The directory is on a
 * disk that both containers see.
 */
import { type Emit, jsonCodec, type Model } from '../explore.ts';
import type { Rule } from '../rules.ts';

type Container = 'no process' | 'waits' | 'open';

interface LockState {
  readonly containers: readonly Container[];
  /** Which container's process has the kernel's lock; the kernel takes it from a dead one. */
  readonly holder: number | null;
  /** Without the rule: the file has the number of a process, which is 1, or is not there. */
  readonly hasFile: boolean;
  readonly restarts: number;
}

export function lockModel(restarts: number, without: readonly Rule[] = []): Model<LockState> {
  const byKernel = !without.includes('C21.lock');
  return {
    initial: () => ({ containers: ['no process', 'no process'], holder: null, hasFile: false, restarts: 0 }),
    successors: (state, emit) => {
      for (const who of state.containers.keys()) step(state, who, restarts, byKernel, emit);
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    // A process that waits while nobody has the directory open would wait without end.
    mayRest: ({ containers }) => containers.includes('open') || !containers.includes('waits'),
    invariants: [{ name: 'one process has the directory open', broken: twice }],
  };
}

const twice = ({ containers }: LockState): string | undefined =>
  containers.filter((each) => each === 'open').length > 1 ? 'two processes have it open' : undefined;

function step(state: LockState, who: number, restarts: number, byKernel: boolean, emit: Emit<LockState>): void {
  const { containers, holder, hasFile } = state;
  const become = (label: string, container: Container, rest: Partial<LockState> = {}): void =>
    emit(`container ${who}: ${label}`, { ...state, ...rest, containers: containers.with(who, container) });
  const is = containers[who]!;
  if (is === 'no process') {
    if (state.restarts < restarts) become('its process starts', 'waits', { restarts: state.restarts + 1 });
    return;
  }
  if (is === 'open') {
    become('its process dies', 'no process', { holder: null });
    become('closes', 'no process', { holder: null, hasFile: false });
  } else if (byKernel && holder === null) become('locks and opens', 'open', { holder: who });
  // Otherwise the file says 1, and there is a process 1 in each container: the one that looks.
  else if (!byKernel && !hasFile) become('writes its number and opens', 'open', { hasFile: true });
}
