import type { BackupRecord, CommittedPack } from '../../../../src/repository/format/log-entry.ts';
import type { LogState } from '../../../../src/repository/format/log-state.ts';
import { packKey } from '../../../../src/repository/format/object-keys.ts';
import type { PackName } from '../../../../src/repository/format/record.ts';
import { decideCommit } from '../../../../src/repository/log/entries/commit.ts';
import { decideOpen } from '../../../../src/repository/log/entries/sessions.ts';
import type { LogWriter } from '../../../../src/repository/log/log-writer.ts';
import { randomBytes } from '../../../support/randomness.ts';
import { backup, hexId, pack } from './facts.ts';

/** A small incremental backup as a job makes it: `open`, one pack, `commit`. */

export interface JobOptions {
  volume?: string;
  takeOver?: readonly number[];
  /** Packs of others that the backup refers to. */
  references?: readonly PackName[];
  signal?: AbortSignal;
  /** Runs between the pack and the commit. */
  beforeCommit?: (() => Promise<unknown>) | undefined;
  /** Told before the commit is tried. */
  onCommit?: (id: string, session: number) => void;
}

/** Resolves once the commit is reported. */
export async function runJob(writer: LogWriter, options: JobOptions = {}): Promise<BackupRecord> {
  const { volume = 'disk', takeOver, references = [], signal } = options;
  const opened = await writer.append(
    (state) => {
      const head = state.heads.get(volume)?.id;
      const base = head !== undefined && state.backups.has(head) ? head : undefined;
      return decideOpen(state, { owner: 'host', volumes: new Map([[volume, base]]), takeOver });
    },
    { signal, lookFirst: false, confirm: false },
  );
  const session = opened!.entry.seq;
  const stored = await storePack(writer, session);
  await options.beforeCommit?.();
  const { heads, sessions } = opened!.state;
  const base = sessions.get(session)!.volumes.get(volume);
  const one = backup(stored, { volume, parent: heads.get(volume)?.id, base });
  options.onCommit?.(one.id, session);
  const plan = { session, backups: [one], packs: [stored], references: [stored, ...references] };
  await writer.append((state) => decideCommit(state, plan), { signal, lookFirst: false });
  return one;
}

/** Uploads a pack, again and again under fresh names until one PUT is acknowledged. */
export async function storePack(writer: LogWriter, session: number): Promise<CommittedPack> {
  for (let attempt = 1; ; attempt++) {
    const stored = { ...pack(session, 'a'), random: hexId() };
    try {
      await writer.reader.source.target.put(packKey(stored), Uint8Array.from(randomBytes(100)));
      return stored;
    } catch (error) {
      if (attempt === 20) throw error;
    }
  }
}

/** Ids of all backups that the log of a state has ever heard of and not forgotten. */
export const idsOf = (state: LogState): string[] => [...state.backups.keys()];
