/** What a power loss leaves of the files of a state directory. */
import type { Emit } from '../explore.ts';
import { type CheckpointFile, change, type FilesState, type FilesWorld, type JournalFile, synced } from './files.ts';

/** What was not synced is there or not, each by itself. */
export function powerLoss(state: FilesState, { configuration }: FilesWorld, emit: Emit<FilesState>): void {
  if (state.crashes === configuration.crashes) return;
  for (const names of foldersLeft(state)) {
    const journals = state.journals.filter(({ number }) => names.includes(`j${number}`));
    const checkpoints = state.checkpoints.filter(({ number }) => names.includes(`c${number}`));
    for (const files of eachLeft(journals, journalsLeft)) {
      for (const kept of eachLeft(checkpoints, checkpointsLeft)) {
        const show = files.map(
          ({ number, groups }) => `j${number}: ${groups.map((group) => group?.id ?? '-').join(' ')}`,
        );
        emit(`power loss: ${names.join(' ')}; ${show.join('; ')}`, {
          ...{ ...state, journals: files, checkpoints: kept, names, changes: [] },
          ...{ process: null, crashes: state.crashes + 1 },
        });
      }
    }
  }
}

function foldersLeft({ names, changes }: FilesState): string[][] {
  const left = new Map<string, string[]>();
  for (let mask = 0; mask < 1 << changes.length; mask++) {
    const there = new Set(names);
    for (const [index, { name, isThere }] of changes.entries()) {
      if (mask & (1 << index)) change(there, name, isThere);
    }
    left.set([...there].sort().join(' '), [...there].sort());
  }
  return [...left.values()];
}

function journalsLeft({ number, groups }: JournalFile): JournalFile[] {
  const lists = eachLeft(groups, (group) => (group && !group.isSynced ? [synced(group), null] : [group]));
  return lists.map((list) => ({ number, groups: list }));
}

const checkpointsLeft = (checkpoint: CheckpointFile): CheckpointFile[] =>
  checkpoint.isSynced ? [checkpoint] : [true, false].map((isWhole) => ({ ...checkpoint, isSynced: true, isWhole }));

const eachLeft = <T, L>(items: readonly T[], left: (item: T) => readonly L[]): L[][] =>
  items.reduce<L[][]>((before, item) => before.flatMap((one) => left(item).map((each) => [...one, each])), [[]]);
