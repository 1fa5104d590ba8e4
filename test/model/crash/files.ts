/**
 * The files of a state directory: a checkpoint, the journals behind it, and the folder that names them. Groups of records are numbers,
 * each says which one it follows. After a power loss each group, name and checkpoint that was not synced is there or not.
 */
import { type Emit, jsonCodec, type Model } from '../explore.ts';
import type { Rule } from '../rules.ts';
import { powerLoss } from './files-crash.ts';
import { readings } from './reading.ts';

export interface FileGroup {
  readonly id: number;
  readonly after: number;
  readonly isSynced: boolean;
}

export interface JournalFile {
  readonly number: number;
  /** By position; null where a crash has left none. */
  readonly groups: readonly (FileGroup | null)[];
}

export interface CheckpointFile {
  /** The journal that goes on from it. */
  readonly number: number;
  readonly ids: readonly number[];
  readonly isSynced: boolean;
  readonly isWhole: boolean;
}

type Rotation = 'none' | 'synced' | 'made' | 'switched' | 'whole' | 'renamed' | 'named';

interface FilesProcess {
  /** found: the files were read. begun: a new journal is there, and is not synced yet. */
  readonly phase: 'found' | 'begun' | 'open';
  readonly ids: readonly number[];
  /** The journal that it appends to. */
  readonly number: number;
  readonly rotation: Rotation;
  /** What the checkpoint in progress is to have. */
  readonly covered: readonly number[];
}

export interface FilesState {
  readonly journals: readonly JournalFile[];
  readonly checkpoints: readonly CheckpointFile[];
  /** Names that are durable, and what was done to the folder since it was synced. */
  readonly names: readonly string[];
  readonly changes: readonly { readonly name: string; readonly isThere: boolean }[];
  readonly process: FilesProcess | null;
  /** Nobody sees this: the groups whose records were relied on. */
  readonly acknowledged: readonly number[];
  readonly next: number;
  readonly appends: number;
  readonly rotations: number;
  readonly crashes: number;
}

export interface FilesConfiguration {
  readonly appends: number;
  readonly rotations: number;
  readonly crashes: number;
  /** Whether a group is written before the one before it is synced, as under `fast`. */
  readonly isFast?: boolean | undefined;
  /** Whether the last group may be cut, because its slots don't hold what it says. */
  readonly cuts?: boolean | undefined;
}

export interface FilesWorld {
  readonly configuration: FilesConfiguration;
  readonly keeps: (rule: Rule) => boolean;
}

export function change(there: Set<string>, name: string, isThere: boolean): void {
  if (isThere) there.add(name);
  else there.delete(name);
}

export const namesOf = ({ names, changes }: FilesState): readonly string[] => {
  const there = new Set(names);
  for (const { name, isThere } of changes) change(there, name, isThere);
  return [...there].sort();
};

export function filesModel(configuration: FilesConfiguration, without: readonly Rule[] = []): Model<FilesState> {
  const world: FilesWorld = { configuration, keeps: (rule) => !without.includes(rule) };
  return {
    initial: () => ({
      journals: [{ number: 1, groups: [] }],
      checkpoints: [{ number: 1, ids: [], isSynced: true, isWhole: true }],
      ...{ names: ['c1', 'j1'], changes: [], acknowledged: [], next: 1, appends: 0, rotations: 0, crashes: 0 },
      process: { phase: 'open', ids: [], number: 1, rotation: 'none', covered: [] },
    }),
    successors: (state, emit) => successors(state, world, emit),
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: ({ process, appends }) => process?.phase === 'open' && appends === configuration.appends,
    invariants: [
      { name: 'F1: what was acknowledged is read again, and nothing stands on what is missing', broken: misread },
    ],
  };
}

function misread({ process, acknowledged, journals }: FilesState): string | undefined {
  if (process?.phase !== 'found') return undefined;
  const { ids } = process;
  const lost = acknowledged.findIndex((id, index) => ids[index] !== id);
  if (lost >= 0)
    return `group ${acknowledged[lost]} was acknowledged, and what is read is ${ids.join(' ') || 'nothing'}`;
  const groups = journals.flatMap((file) => file.groups);
  const index = ids.findIndex((id, at) =>
    groups.some((group) => group?.id === id && group.after !== (ids[at - 1] ?? 0)),
  );
  return index < 0
    ? undefined
    : `group ${ids[index]} is read behind ${ids[index - 1] ?? 'nothing'}, and does not follow it`;
}

function successors(state: FilesState, world: FilesWorld, emit: Emit<FilesState>): void {
  powerLoss(state, world, emit);
  const { process, crashes } = state;
  if (process === null) {
    for (const { label, ids } of readings(state, world)) {
      const found: FilesProcess = { phase: 'found', ids, number: 0, rotation: 'none', covered: [] };
      emit(`reopens, ${label}, and has ${ids.join(' ') || 'nothing'}`, { ...state, process: found });
    }
    return;
  }
  if (crashes < world.configuration.crashes) emit('kill', { ...state, process: null, crashes: crashes + 1 });
  if (process.phase === 'found') begin(state, process, world, emit);
  else {
    append(state, process, world, emit);
    if (process.phase === 'open') rotate(state, process, world, emit);
  }
}

const has = (file: JournalFile | undefined, isOpen: (group: FileGroup) => boolean): boolean =>
  file?.groups.some((group) => group !== null && isOpen(group)) ?? false;

export const synced = <T extends { readonly isSynced: boolean }>(each: T): T => ({ ...each, isSynced: true });

/** Syncs what it has read; makes a new journal, or goes on in the last one. */
function begin(state: FilesState, process: FilesProcess, { keeps }: FilesWorld, emit: Emit<FilesState>): void {
  const read = (group: FileGroup | null): FileGroup | null => (group && keeps('C15.synced') ? synced(group) : group);
  const journals = state.journals.map((file) => ({ ...file, groups: file.groups.map(read) }));
  const newest = Math.max(...journals.map(({ number }) => number));
  const isSynced = keeps('C15.synced');
  const settled = { ...state, journals, ...(isSynced ? { names: namesOf(state), changes: [] } : {}) };
  if (!keeps('C15.newFile')) {
    const next = withGroup({ ...settled, process: { ...process, phase: 'begun', number: newest } }, true);
    emit('syncs what it has read, and writes OPENED where this ends', next);
    return;
  }
  const number = newest + 1;
  const made = { ...settled, journals: [...journals, { number, groups: [] }] };
  const names = isSynced
    ? { names: [...made.names, `j${number}`].sort() }
    : { changes: [...made.changes, { name: `j${number}`, isThere: true }] };
  const next = withGroup({ ...made, ...names, process: { ...process, phase: 'begun', number } }, false);
  emit(`syncs what it has read, makes journal ${number}, and writes OPENED`, next);
}

/** The next group, in the next position: behind what was read of a file that is gone on with. */
function withGroup(state: FilesState, goesOn: boolean): FilesState {
  const process = state.process!;
  const { ids, number } = process;
  const group: FileGroup = { id: state.next, after: ids.at(-1) ?? 0, isSynced: false };
  const journals = state.journals.map((file) => {
    if (file.number !== number) return file;
    const position = goesOn
      ? file.groups.findLastIndex((each) => each !== null && ids.includes(each.id)) + 1
      : file.groups.length;
    return { ...file, groups: [...file.groups.slice(0, position), group, ...file.groups.slice(position + 1)] };
  });
  return { ...state, journals, next: state.next + 1, process: { ...process, ids: [...ids, group.id] } };
}

function append(
  state: FilesState,
  process: FilesProcess,
  { configuration, keeps }: FilesWorld,
  emit: Emit<FilesState>,
): void {
  const file = state.journals.find(({ number }) => number === process.number);
  const isAtWork = has(file, ({ isSynced }) => !isSynced);
  const isBetween = process.rotation === 'synced' || process.rotation === 'made';
  if (
    process.phase === 'open' &&
    !isBetween &&
    state.appends < configuration.appends &&
    (!isAtWork || configuration.isFast)
  ) {
    const next = withGroup({ ...state, appends: state.appends + 1 }, !keeps('C15.newFile'));
    emit(`writes group ${state.next} to journal ${process.number}`, next);
  }
  if (!isAtWork) return;
  const opened = { ...process, phase: 'open' as const };
  emit(`syncs journal ${process.number}`, {
    ...withSynced(state, process.number),
    acknowledged: process.ids,
    process: opened,
  });
}

const withSynced = (state: FilesState, number: number): FilesState => ({
  ...state,
  journals: state.journals.map((file) =>
    file.number === number ? { ...file, groups: file.groups.map((group) => group && synced(group)) } : file,
  ),
});

type To = (rotation: Rotation, label: string, rest?: Partial<FilesState>, changes?: Partial<FilesProcess>) => void;

/** One step of C16. */
function rotate(state: FilesState, process: FilesProcess, world: FilesWorld, emit: Emit<FilesState>): void {
  const to: To = (rotation, label, rest = {}, changes = {}) =>
    emit(label, { ...state, ...rest, process: { ...process, rotation, ...changes } });
  if (['none', 'synced', 'made'].includes(process.rotation)) switchJournal(state, process, world, to);
  else writeCheckpoint(state, process, world, to);
}

const syncedFolder = (state: FilesState): Partial<FilesState> => ({ names: namesOf(state), changes: [] });

function switchJournal(state: FilesState, process: FilesProcess, world: FilesWorld, to: To): void {
  const { number, ids, rotation } = process;
  const next = number + 1;
  if (rotation === 'none') {
    if (state.rotations === world.configuration.rotations) return;
    const rest = { ...state, rotations: state.rotations + 1 };
    const label = `syncs journal ${number} in order to rotate`;
    if (!world.keeps('C16.journal')) to('synced', 'begins to rotate', rest);
    else to('synced', label, { ...withSynced(rest, number), acknowledged: ids });
  } else if (rotation === 'synced') {
    const changes = [...state.changes, { name: `j${next}`, isThere: true }];
    to('made', `makes journal ${next}`, { journals: [...state.journals, { number: next, groups: [] }], changes });
  } else {
    const isSynced = world.keeps('C16.folder');
    const label = `${isSynced ? 'syncs the folder, and ' : ''}goes on in journal ${next}`;
    to('switched', label, isSynced ? syncedFolder(state) : {}, { number: next, covered: ids });
  }
}

function writeCheckpoint(state: FilesState, process: FilesProcess, { keeps }: FilesWorld, to: To): void {
  const { number, covered, rotation } = process;
  if (rotation === 'switched') {
    const isSynced = keeps('C16.content');
    const checkpoints = [...state.checkpoints, { number, ids: covered, isSynced, isWhole: true }];
    to('whole', `writes ${isSynced ? 'and syncs ' : ''}checkpoint ${number} beside`, { checkpoints });
  } else if (rotation === 'whole') {
    const changes = [...state.changes, { name: `c${number}`, isThere: true }];
    to('renamed', `renames checkpoint ${number}`, { changes });
  } else if (rotation === 'renamed') {
    const isSynced = keeps('C16.rename');
    to('named', isSynced ? 'syncs the folder' : 'does not sync the folder', isSynced ? syncedFolder(state) : {});
  } else {
    const older = namesOf(state).filter((name) => Number(name.slice(1)) < number);
    const changes = [...state.changes, ...older.map((name) => ({ name, isThere: false }))];
    to('none', `unlinks ${older.join(' ')}`, { changes });
  }
}
