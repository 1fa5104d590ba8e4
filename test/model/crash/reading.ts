/** What a process reads of the files that a crash has left. */
import { type FileGroup, type FilesState, type FilesWorld, namesOf } from './files.ts';

export interface Reading {
  readonly label: string;
  readonly ids: readonly number[];
}

/** The newest checkpoint that checks, and the journals from its number on. The last group may be cut, because of its slots. */
export function readings(state: FilesState, world: FilesWorld): Reading[] {
  const names = namesOf(state);
  const checkpoint = state.checkpoints
    .filter(({ number, isWhole }) => isWhole && names.includes(`c${number}`))
    .reduce<FilesState['checkpoints'][number] | undefined>((a, b) => (a && a.number > b.number ? a : b), undefined);
  if (!checkpoint) return [{ label: 'finds no checkpoint', ids: [] }];
  const label = `reads checkpoint ${checkpoint.number}`;
  const whole = journalsFrom(state, checkpoint, world);
  const isCertain = state.acknowledged.includes(whole.at(-1) ?? 0) || whole.length === checkpoint.ids.length;
  if (!world.configuration.cuts || isCertain) return [{ label, ids: whole }];
  return [
    { label, ids: whole },
    { label: `${label}, cuts the last group`, ids: whole.slice(0, -1) },
  ];
}

function journalsFrom(state: FilesState, from: FilesState['checkpoints'][number], { keeps }: FilesWorld): number[] {
  const names = namesOf(state);
  let ids = [...from.ids];
  for (let number = from.number; names.includes(`j${number}`); number++) {
    const groups = wholeGroups(state, number);
    const [first] = groups;
    if (!first) continue;
    if (keeps('C13.chain') && first.after !== (ids.at(-1) ?? 0)) {
      const end = first.after === 0 ? 0 : ids.indexOf(first.after) + 1;
      // The new file says where the one before it ends, but not before the checkpoint.
      if (!keeps('C13.head') || (first.after !== 0 && end === 0) || end < from.ids.length) break;
      ids = ids.slice(0, end);
    }
    ids = [...ids, ...chained(groups, keeps('C13.chain')).map(({ id }) => id)];
  }
  return ids;
}

/** Up to the first that is not there. */
function wholeGroups({ journals }: FilesState, number: number): FileGroup[] {
  const { groups } = journals.find((file) => file.number === number)!;
  const end = groups.indexOf(null);
  return groups.slice(0, end < 0 ? groups.length : end).filter((group) => group !== null);
}

function chained(groups: readonly FileGroup[], isChained: boolean): readonly FileGroup[] {
  const end = groups.findIndex((group, index) => index > 0 && group.after !== groups[index - 1]!.id);
  return isChained && end >= 0 ? groups.slice(0, end) : groups;
}
