import { BackupError } from '../../../common/errors.ts';
import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import { logCorrupt } from '../../format/decode-values.ts';
import type { LogEntry, LogFactOf } from '../../format/log-entry.ts';
import { type BackupHold, backupOf, type LogState, mayHave, type StoredBackup } from '../../format/log-state.ts';
import type { Decision } from './decision.ts';
import type { FoldDraft } from './fold-draft.ts';

/*
 * `forget`, `hold` and `release`: entries about backups that are committed.
 *
 * `forget` removes backups from the list. One that an open session has pinned as its base stays readable until that session
 * ends (P3). The head of the volume does not change (P2). `hold` keeps backups from being forgotten, `release` ends that.
 * Each is refused for a backup that is not there, and `forget` for one that is held.
 */

/** Hex digits of an id. */
const ID_DIGITS = 32;

/** Refuses with `BACKUP_HELD`, `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND`. */
export function* decideForget(state: LogState, ids: Iterable<string>): Steps<Decision<LogFactOf<'forget'>>> {
  return yield* deciding(state, ids, (backups) => {
    const held = backups.find(({ hold }) => hold !== undefined);
    return held === undefined ? { type: 'forget', backups: idsOf(backups) } : heldBackup(held);
  });
}

/** Leaves out backups that are held for this reason already. Refuses with `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND`. */
export function* decideHold(
  state: LogState,
  ids: Iterable<string>,
  reason: string | undefined,
): Steps<Decision<LogFactOf<'hold'>>> {
  return yield* deciding(state, ids, (backups) => {
    const changed = backups.filter(({ hold }) => hold === undefined || hold.reason !== reason);
    return changed.length === 0 ? undefined : { type: 'hold', backups: idsOf(changed), reason };
  });
}

/** Leaves out backups that are not held. Refuses with `BACKUP_FORGOTTEN` or `BACKUP_NOT_FOUND`. */
export function* decideRelease(state: LogState, ids: Iterable<string>): Steps<Decision<LogFactOf<'release'>>> {
  return yield* deciding(state, ids, (backups) => {
    const held = backups.filter(({ hold }) => hold !== undefined);
    return held.length === 0 ? undefined : { type: 'release', backups: idsOf(held) };
  });
}

/** Why a backup is not there. The state remembers only some of those that were forgotten. */
export function missingBackup(state: LogState, id: string): BackupError {
  const wasThere = state.pinned.has(id) || state.forgotten.has(id) || isHead(state, id);
  if (wasThere) return new BackupError('BACKUP_FORGOTTEN', `backup ${id} has been forgotten: choose another one`);
  const byFirstDigits = `an id has ${ID_DIGITS} digits: findBackup finds a backup by the first ones of its id`;
  const advice = id.length < ID_DIGITS ? byFirstDigits : 'listBackups lists those that are there';
  return new BackupError('BACKUP_NOT_FOUND', `there is no backup ${id}, or it has been forgotten; ${advice}`);
}

function isHead({ heads }: LogState, id: string): boolean {
  for (const head of heads.values()) if (head.id === id) return true;
  return false;
}

export function* foldForget(draft: FoldDraft, { backups }: LogFactOf<'forget'>): Steps<void> {
  yield* draft.own(['backups', 'pinned', 'forgotten', 'holds']);
  for (const id of backups) {
    if (draft.steps.isDue()) yield;
    const hold = holdOn(draft, id, 'forgets');
    if (hold !== undefined && hold !== 'unknown') {
      throw logCorrupt(`entry ${draft.state.seq + 1} forgets backup ${id}, which is held`);
    }
    draft.forget(id);
  }
}

export function* foldHold(
  draft: FoldDraft,
  { at, backups, reason }: Extract<LogEntry, { readonly type: 'hold' }>,
): Steps<void> {
  yield* draft.own(['backups', 'holds']);
  for (const id of backups) {
    holdOn(draft, id, 'holds');
    setHold(draft, id, { at, reason });
  }
}

export function* foldRelease(draft: FoldDraft, { backups }: LogFactOf<'release'>): Steps<void> {
  yield* draft.own(['backups', 'holds']);
  for (const id of backups) {
    if (holdOn(draft, id, 'releases') === undefined) {
      throw logCorrupt(`entry ${draft.state.seq + 1} releases backup ${id}, which is not held`);
    }
    setHold(draft, id, undefined);
  }
}

/** Decides about the backups that are named, each of them once. Naming none appends nothing. */
function* deciding<T>(
  state: LogState,
  ids: Iterable<string>,
  decide: (backups: readonly StoredBackup[]) => T,
): Steps<T | BackupError | undefined> {
  const steps = new StepCounter();
  const backups: StoredBackup[] = [];
  for (const id of new Set(ids)) {
    if (steps.isDue()) yield;
    const backup = backupOf(state, id);
    if (backup === undefined) return missingBackup(state, id);
    backups.push(backup);
  }
  return backups.length === 0 ? undefined : decide(backups);
}

function idsOf(backups: readonly StoredBackup[]): string[] {
  return backups.map(({ id }) => id);
}

/**
 * The hold of a backup that an entry names; `'unknown'` where only a page has it: what the entry says of it is its author's duty.
 */
function holdOn({ state }: FoldDraft, id: string, verb: string): BackupHold | 'unknown' | undefined {
  if (mayHave(state, id) === false) {
    throw logCorrupt(`entry ${state.seq + 1} ${verb} backup ${id}, which is not in the log`);
  }
  const backup = state.backups.get(id);
  if (backup !== undefined) return backup.hold;
  return state.holds.has(id) ? state.holds.get(id) : 'unknown';
}

function setHold({ state }: FoldDraft, id: string, hold: BackupHold | undefined): void {
  const backup = state.backups.get(id);
  if (backup === undefined) {
    state.holds.set(id, hold);
    return;
  }
  const { hold: _, ...released } = backup;
  state.backups.set(id, hold === undefined ? released : { ...released, hold });
}

function heldBackup({ id, hold }: StoredBackup): BackupError {
  const why = hold?.reason === undefined ? '' : ` (${JSON.stringify(hold.reason)})`;
  return new BackupError('BACKUP_HELD', `backup ${id} is held${why}: release it before you forget it`);
}
