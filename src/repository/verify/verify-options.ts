import {
  booleanArgument,
  choiceArgument,
  integerArgument,
  optionsArgument,
  signalArgument,
} from '../../common/arguments.ts';
import type { BackupError } from '../../common/errors.ts';
import type { Progress, ProgressOptions } from '../context/progress.ts';
import type { Unreferenced } from '../prune/unreferenced.ts';
import { idsArgument } from '../retention/forget.ts';
import type { DamagedObject } from './small-objects.ts';

/** How thoroughly a repository is verified. @public */
export type VerifyDepth = 'structure' | 'checksums' | 'data';

/**
 * How a repository is verified. At every depth `format` and all key slots are verified, bit by bit, and `format` is restored
 * where it is missing or damaged and the repository was not opened for reading only.
 *
 * @public
 */
export interface VerifyOptions extends ProgressOptions<Progress> {
  /**
   * - `structure`: the log in full, every map in full (each node and run against its id), and whether every pack that maps
   *   need is there with the length that it had. No data is downloaded. It finds what is missing and cut off.
   * - `checksums`: that, and the checksums that the store itself keeps of packs against those of the log, without
   *   downloading them: a request a pack. Where the store keeps none, what packs say of their content against what maps say of
   *   it. It finds what the store knows to have changed.
   * - `data`: that without the store's checksums, and every pack downloaded, its SHA-256 against the log's and every record
   *   opened and compared with its id. It finds everything.
   */
  depth: VerifyDepth;
  /**
   * With `data`: verify this fraction of the data, more than 0 and at most 1, beginning with what any host verified least
   * recently. Of the log, the new entries and the same fraction of the old ones are verified, in turn. With `1/30` a day all of it is verified
   * within about a month. @defaultValue all of it
   */
  fraction?: number | undefined;
  /** With `data`: download at most about this many bytes of packs, least recently verified first, and at least one pack. */
  maxBytes?: number | undefined;
  /** Verify only what these backups need, and report no other damage. @defaultValue all of them */
  backups?: readonly string[] | undefined;
  /**
   * Record damaged packs in the log. From then on no backup builds on them, and the next backup of each volume stores their
   * content again where the volume still has it. With `data`, packs that verify as good again are removed from the record.
   * A repository that was opened for reading only is never written to. @defaultValue true
   */
  quarantine?: boolean | undefined;
}

/** A pack that is not as it should be. @public */
export interface DamagedPack {
  /** Its key in the target, as `packs/...`. */
  readonly pack: string;
  /** Ids of the backups that need a damaged part of it. None: no backup needs what is damaged. */
  readonly backups: readonly string[];
  /** `PACK_MISSING`, `PACK_CORRUPT`, `RECORD_CORRUPT` or `MAP_CORRUPT`: the first thing that was found wrong with it. */
  readonly error: BackupError;
}

/** An object that is not as it should be on one of several targets that keep the same. @public */
export interface ReplicaDamage {
  /** Which target of a `fanOut`, as `replicas[0]`. */
  readonly member: string;
  /** Its key, as `packs/...`. */
  readonly object: string;
  /** `OBJECT_NOT_FOUND`, `REPOSITORY_CORRUPT`, `PACK_MISSING`, `PACK_CORRUPT` or `RECORD_CORRUPT`. */
  readonly error: BackupError;
}

/** What verifying found. @public */
export interface VerifyResult {
  /** Whether nothing is damaged in what was verified. */
  readonly ok: boolean;
  readonly damaged: readonly DamagedPack[];
  /** What is wrong with `format` and the key slots, which every backup rests on. */
  readonly damagedObjects: readonly DamagedObject[];
  /** Keys of objects that were missing or damaged, and that this run has restored: `format`, and copies of pages of the
   * catalogue, each of which is stored twice. They are then no longer damaged. */
  readonly restored: readonly string[];
  /**
   * Ids of key slots that no entry of the log names. `keys.add` was interrupted between the slot and its entry, or is about to
   * write it; or a process ended while it created a repository here that another one had created meanwhile; or a stranger put
   * it there. `keys.list` says which of them open the repository. They are no damage, but nobody would notice if one went
   * missing: remove such a slot, and add the key again if it is to stay.
   */
  readonly unrecordedKeySlots: readonly string[];
  /**
   * What the replicas of a `fanOut` lack or have otherwise: of each the log, the key slots and the packs in their lengths, and
   * with `data` the content of the same packs. `damaged` is about the primary. `synchronize` of the `fanOut` copies what is
   * missing or of another length, and what is damaged in its content with `recopy`.
   */
  readonly damagedReplicas: readonly ReplicaDamage[];
  /** Bytes of packs that were verified: downloaded with `data`, by checksum with `checksums`; of maps with `structure`. */
  readonly verifiedBytes: number;
  /** Packs that the verified backups need, and their bytes. */
  readonly packs: number;
  readonly packBytes: number;
  /** Of those: with `data` packs that were downloaded, with `checksums` those whose checksum was compared. */
  readonly verifiedPacks: number;
  /** With `checksums`: packs of which only length and table of contents were compared, because the store keeps no checksum. */
  readonly packsWithoutChecksum: number;
  /** Keys of packs that this run put into quarantine, and of those that it released. */
  readonly quarantined: readonly string[];
  readonly released: readonly string[];
  /** Uploads that no backup refers to: of backups under way, and of dead ones until a prune frees them. They are not verified. */
  readonly unreferenced: Unreferenced;
  /** Why damaged packs could not be noted in the log. */
  readonly quarantineError: BackupError | undefined;
}

export interface CheckedVerifyOptions extends Pick<VerifyOptions, 'signal' | 'onProgress' | 'backups'> {
  readonly depth: VerifyDepth;
  readonly fraction: number;
  readonly maxBytes: number;
  readonly quarantine: boolean;
}

export const VERIFY_OPTIONS: Readonly<Record<keyof VerifyOptions, true>> = {
  depth: true,
  fraction: true,
  maxBytes: true,
  backups: true,
  quarantine: true,
  signal: true,
  onProgress: true,
};

/** @throws TypeError */
export function checkVerifyOptions(given: VerifyOptions): CheckedVerifyOptions {
  const options = optionsArgument('options', given, VERIFY_OPTIONS);
  const { quarantine = true, backups } = options;
  const depth = choiceArgument('depth', options.depth, ['structure', 'checksums', 'data']);
  const { fraction, maxBytes } = options;
  if (fraction !== undefined && !(typeof fraction === 'number' && fraction > 0 && fraction <= 1)) {
    throw new TypeError(`fraction must be a number above 0 and at most 1, not ${String(fraction)}`);
  }
  if (maxBytes !== undefined) integerArgument('maxBytes', maxBytes, 1);
  if (depth !== 'data' && (fraction !== undefined || maxBytes !== undefined)) {
    throw new TypeError(`fraction and maxBytes say how much data is verified: with depth 'data', not '${depth}'`);
  }
  return {
    depth,
    fraction: fraction ?? 1,
    maxBytes: maxBytes ?? Number.POSITIVE_INFINITY,
    backups: backups === undefined ? undefined : idsArgument('backups', backups),
    quarantine: booleanArgument('quarantine', quarantine),
    signal: signalArgument('signal', options.signal),
    onProgress: options.onProgress,
  };
}
