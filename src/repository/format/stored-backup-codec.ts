import { backupOf, backupPlain } from './backup-codec.ts';
import { mapOf, optional, seqOf, textOf, timeOf, tupleOf } from './decode-values.ts';
import type { BackupHold, StoredBackup } from './log-state.ts';

/** Backups as a checkpoint has them: `docs/FORMAT.md`, section 9. */

export function storedPlain(backup: StoredBackup): unknown {
  const { seq, committedAt, session, hold } = backup;
  const plain = { ...backupPlain(backup), seq, committedAt, session };
  return hold === undefined ? plain : { ...plain, hold: [hold.at, hold.reason ?? null] };
}

export function storedOf(value: unknown): StoredBackup {
  const { seq, committedAt, session, hold } = mapOf(value, 'a backup');
  const backup = {
    ...backupOf(value),
    seq: seqOf(seq, "a backup's entry"),
    committedAt: timeOf(committedAt, 'its time'),
    session: seqOf(session, 'its session'),
  };
  return hold === undefined ? backup : { ...backup, hold: holdOf(hold) };
}

function holdOf(value: unknown): BackupHold {
  const [at, reason] = tupleOf(value, 2, 'a hold');
  return {
    at: timeOf(at, "a hold's time"),
    reason: optional(reason, (text) => textOf(text, 'the reason of a hold', 1)),
  };
}
