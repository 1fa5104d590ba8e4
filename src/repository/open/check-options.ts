import type { AbortOptions } from '../../common/abort.ts';
import { booleanArgument, optionsArgument, signalArgument } from '../../common/arguments.ts';
import { type CheckedUnlock, checkUnlock } from '../crypto/unlock.ts';
import type { LogPosition } from '../log/log-source.ts';
import { positionArgument } from './log-position.ts';
import type { CreateOptions, NewRepositoryOptions, OpenOptions, RepositoryTuning } from './repository-options.ts';

/** Checks the options of `open` and `create`, except tuning, which `checkTuning` checks. */

const TUNING_KEYS: Readonly<Record<keyof RepositoryTuning, true>> = {
  threads: true,
  compressionLevel: true,
  sealMemoryBytes: true,
  packBytes: true,
  parallelUploads: true,
  cacheBytes: true,
  owner: true,
  workerUrl: true,
};
const NEW_KEYS: Readonly<Record<keyof NewRepositoryOptions, true>> = { encryption: true, singleWriter: true };
const CREATE_KEYS: Readonly<Record<keyof (CreateOptions & AbortOptions), true>> = {
  ...TUNING_KEYS,
  ...NEW_KEYS,
  signal: true,
};
const OPEN_KEYS: Readonly<Record<keyof OpenOptions, true>> = {
  ...TUNING_KEYS,
  signal: true,
  unlock: true,
  readOnly: true,
  singleWriter: true,
  createIfMissing: true,
  remembered: true,
};

/** Checked {@link NewRepositoryOptions}. */
export interface CheckedNewRepository {
  /** `undefined` for a plain repository. */
  readonly unlock: CheckedUnlock | undefined;
  readonly singleWriter: boolean;
}

/** Checked {@link OpenOptions}. */
export interface CheckedOpen {
  readonly unlock: CheckedUnlock | undefined;
  readonly readOnly: boolean;
  readonly singleWriter: boolean;
  readonly createIfMissing: CheckedNewRepository | undefined;
  readonly remembered: LogPosition | undefined;
  readonly signal: AbortSignal | undefined;
}

/** @throws TypeError */
export function checkCreateOptions(options: CreateOptions & AbortOptions): CheckedNewRepository {
  const { encryption, singleWriter, signal } = optionsArgument('options', options, CREATE_KEYS);
  signalArgument('signal', signal);
  return checkNewRepository('', { encryption, singleWriter });
}

/** @throws TypeError */
export function checkOpenOptions(options: OpenOptions): CheckedOpen {
  const checked = optionsArgument('options', options, OPEN_KEYS);
  const { unlock, readOnly = false, singleWriter, createIfMissing, remembered, signal } = checked;
  booleanArgument('readOnly', readOnly);
  if (singleWriter !== undefined) booleanArgument('singleWriter', singleWriter);
  const given = unlock === undefined ? undefined : checkUnlock(unlock);
  const missing =
    createIfMissing === undefined
      ? undefined
      : checkNewRepository(
          'createIfMissing.',
          optionsArgument('createIfMissing', createIfMissing, NEW_KEYS),
          singleWriter,
        );
  if (missing !== undefined && readOnly) throw new TypeError('readOnly and createIfMissing exclude each other');
  if (missing !== undefined && missing.unlock === undefined && given !== undefined) {
    throw new TypeError("unlock is given, so createIfMissing.encryption must not be 'none'");
  }
  return {
    unlock: given ?? missing?.unlock,
    readOnly,
    singleWriter: singleWriter ?? missing?.singleWriter ?? false,
    createIfMissing: missing,
    remembered: remembered === undefined ? undefined : positionArgument('remembered', remembered),
    signal: signalArgument('signal', signal),
  };
}

function checkNewRepository(
  path: string,
  { encryption, singleWriter }: NewRepositoryOptions,
  singleWriterByDefault = false,
): CheckedNewRepository {
  if (encryption === undefined) {
    throw new TypeError(`${path}encryption is required: a passphrase, a key, a provider, or 'none'`);
  }
  return {
    unlock: encryption === 'none' ? undefined : checkUnlock(encryption, `${path}encryption`),
    singleWriter: booleanArgument(`${path}singleWriter`, singleWriter ?? singleWriterByDefault),
  };
}
