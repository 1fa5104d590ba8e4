import { BackupError } from '../../../../src/common/errors.ts';
import { MemoryDevice } from '../../../../src/device/memory-device.ts';
import type { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import type { BackupInfo } from '../../../../src/repository/context/backup-info.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { openIn } from '../../support/repositories.ts';
import { attempt, type Outcome } from './attempt.ts';
import type { Guest } from './guest.ts';
import { type Kept, sameBytes } from './ledger.ts';

/** What those are told who open a copy that has not all of the log, or lacks `format` or a key slot. */
const REFUSALS = ['LOG_TRUNCATED', 'REPOSITORY_NOT_FOUND', 'REPOSITORY_CORRUPT', 'KEY_SLOT_NOT_FOUND', 'KEY_REFUSED'];
/** What those are told who read a backup whose packs were not copied. */
const MISSING = ['PACK_MISSING'];

export interface Examined {
  /** The code with which opening, listing or verifying was refused. */
  readonly refused: string | undefined;
  readonly readable: readonly Kept[];
  /** Backups that lack packs. */
  readonly lacking: readonly string[];
}

/**
 * Reads a copy whole. What it says must be true: it is refused, or a backup lacks packs, or all bytes are those of the instant;
 * and `verify` names the backups that lack packs, and no others.
 *
 * @param wasCommitted - what any backup ever held that was committed
 */
export async function examine(
  copy: CloudTarget,
  isEncrypted: boolean,
  wasCommitted: ReadonlyMap<string, Kept>,
): Promise<Examined> {
  const opened = await attempt(() => openIn(copy, isEncrypted, { readOnly: true }));
  if ('error' in opened) return { refused: expectCode(opened, REFUSALS), readable: [], lacking: [] };
  await using repository = opened.value;
  const listed = await attempt(() => Array.fromAsync(repository.listBackups()));
  if ('error' in listed) return { refused: expectCode(listed, REFUSALS), readable: [], lacking: [] };
  const readable: Kept[] = [];
  const lacking: string[] = [];
  for (const info of listed.value) {
    const kept = described(info, wasCommitted);
    const outcomes = [
      await attempt(() => readWhole(repository, kept)),
      await attempt(() => restoreWhole(repository, kept)),
    ];
    for (const outcome of outcomes) if ('error' in outcome) expectCode(outcome, MISSING);
    if (outcomes.every((outcome) => 'value' in outcome)) readable.push(kept);
    else if (outcomes.every((outcome) => 'error' in outcome)) lacking.push(kept.id);
    else throw new Error(`backup ${kept.id} is read in one way and not in the other`);
  }
  const verified = await attempt(() => repository.verify({ depth: 'data' }));
  // Such as the checkpoint of the floor, where there is a newer one.
  if ('error' in verified) return { refused: `verify: ${expectCode(verified, REFUSALS)}`, readable, lacking };
  const { ok, damaged, damagedObjects } = verified.value;
  for (const { error } of damaged) if (!MISSING.includes(error.code)) throw error;
  for (const { key, error } of damagedObjects) if ((await copy.stat(key)) !== undefined) throw error;
  if (ok && lacking.length > 0) throw new Error(`verify finds nothing wrong, and ${lacking} can't be read`);
  const named = [...new Set(damaged.flatMap(({ backups }) => backups))].sort();
  if (String(named) !== String(lacking.toSorted())) throw new Error(`verify names ${named}, and not ${lacking}`);
  return { refused: undefined, readable, lacking };
}

/**
 * Goes on with a copy as a repository of its own: once `verify` has noted what it lacks, the next backup is whole, and a prune
 * takes nothing from those that can be read.
 */
export async function goOn(copy: CloudTarget, isEncrypted: boolean, guest: Guest, { readable, lacking }: Examined) {
  await using repository = await openIn(copy, isEncrypted);
  await repository.verify({ depth: 'structure' });
  const content = guest.copy();
  const { id } = await repository.backup(guest.volume, { volume: guest.name });
  const all = [...readable, { id, volume: guest.name, content }];
  for (const kept of all) await readWhole(repository, kept);
  await repository.forget(lacking);
  const { repackError } = await repository.prune({
    ...{ graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0, repackBelow: 1, minRepackGainBytes: 0 },
  });
  if (repackError !== undefined) throw repackError;
  for (const kept of all) await readWhole(repository, kept);
  const { ok, damaged } = await repository.verify({ depth: 'data' });
  if (!ok) throw new Error(`${damaged.map(({ pack }) => pack)} still can't be read`, { cause: damaged[0]?.error });
}

function expectCode(outcome: Extract<Outcome<unknown>, { error: unknown }>, codes: readonly string[]): string {
  const { error } = outcome;
  if (codes === REFUSALS && lacksPage(error)) return 'a page is missing';
  if (!BackupError.is(error) || !codes.includes(error.code)) throw error;
  return error.code;
}

/** Of a page of the catalogue neither copy was copied, and no other checkpoint does without it. */
function lacksPage(error: unknown): boolean {
  if (!BackupError.is(error, 'LOG_CORRUPT') || !error.message.includes('page catalogue/')) return false;
  return BackupError.is(error.cause, 'OBJECT_NOT_FOUND');
}

function described({ id, volume, size, intact }: BackupInfo, wasCommitted: ReadonlyMap<string, Kept>): Kept {
  const kept = wasCommitted.get(id);
  if (kept === undefined) throw new Error(`backup ${id} of ${volume} was never committed`);
  if (!intact || size !== kept.content.length || volume !== kept.volume) {
    throw new Error(`backup ${id} is described wrongly`);
  }
  return kept;
}

async function readWhole(repository: BackupRepository, { id, content }: Kept): Promise<void> {
  await using image = await repository.openBackup(id);
  const bytes = new Uint8Array(image.size).fill(0xee);
  await image.read(0, bytes);
  sameBytes(bytes, content, `backup ${id} of a copy`);
}

async function restoreWhole(repository: BackupRepository, { id, content }: Kept): Promise<void> {
  const device = new MemoryDevice(content.length);
  await repository.restore(id, device);
  sameBytes(device.bytes, content, `backup ${id} restored from a copy`);
}
