import { floorSeq, type LogState } from '../../../../src/repository/format/log-state.ts';
import { checkpointKey, LOG_PREFIX, parseLogKey } from '../../../../src/repository/format/object-keys.ts';
import { FloorFinder } from '../../../../src/repository/log/floor-finder.ts';
import type { LogWriter } from '../../../../src/repository/log/log-writer.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { collect } from './facts.ts';

/** A log whose old entries are deleted, without packs and their collection. */

export const keysFact = (n: number) => ({
  type: 'keys' as const,
  added: [n.toString(16).padStart(16, '0')],
  removed: [],
});
let added = 0;

/** Appends small entries. */
export async function grow(writer: LogWriter, count: number): Promise<void> {
  for (let n = 0; n < count; n++) await writer.append(() => keysFact(++added));
}

/** Sets a floor as a prune does; `undefined` if there is none to set. */
export async function raiseFloor(writer: LogWriter): Promise<LogState | undefined> {
  const finder = new FloorFinder(writer);
  const floor = await finder.find(await writer.catchUp(), {});
  if (floor === undefined) return undefined;
  return (await writer.append(() => collect({ floor })))?.state;
}

/** What a prune may delete that goes by a state: in any order, and as often as it likes. */
export async function deleteBelow(target: CloudTarget, state: LogState, leave: (seq: number) => boolean = () => false) {
  const floor = floorSeq(state);
  const ofFloor = [checkpointKey(floor), state.floor && checkpointKey(floor, state.floor.sha256)];
  for await (const { key } of target.list(LOG_PREFIX)) {
    const parsed = parseLogKey(key);
    if (parsed === undefined || parsed.seq > floor || leave(parsed.seq)) continue;
    if (!ofFloor.includes(key)) await target.delete(key);
  }
}

/** Entries, a floor, and everything below it deleted. */
export async function growAndPrune(
  target: CloudTarget,
  writer: LogWriter,
  count = 100,
  leave?: (seq: number) => boolean,
): Promise<LogState> {
  await grow(writer, count);
  const state = await raiseFloor(writer);
  if (state === undefined) throw new Error('the log is too short for a floor');
  await deleteBelow(target, state, leave);
  return state;
}

export async function logKeysOf(target: CloudTarget): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of target.list(LOG_PREFIX)) keys.push(key);
  return keys;
}
