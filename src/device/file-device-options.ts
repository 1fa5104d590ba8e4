import { booleanArgument, integerArgument, optionsArgument, textArgument } from '../common/arguments.ts';

/** Options of {@link FileDevice.open}. @public */
export interface FileDeviceOptions {
  /** Refuse writes with `READ_ONLY`; several readers may have the file open. @defaultValue false */
  readOnly?: boolean | undefined;
  /** Take no lock: another device or program may have the file open too. @defaultValue false */
  shared?: boolean | undefined;
  /** Make the file, sparse. It must not be there yet (`DEVICE_EXISTS`). */
  create?: FileDeviceCreateOptions | undefined;
}

/** How {@link FileDevice.open} makes a file. @public */
export interface FileDeviceCreateOptions {
  /** The size of the device, in bytes. */
  sizeBytes: number;
  /** The permissions of the file, under any umask. Without meaning on Windows. @defaultValue 0o600 */
  mode?: number | undefined;
}

interface CheckedFileDeviceOptions {
  readonly readOnly: boolean;
  readonly shared: boolean;
  readonly create: { readonly sizeBytes: number; readonly mode: number } | undefined;
}

/** Options with their defaults, or a `TypeError`. */
export function checkFileDeviceOptions(path: string, options: FileDeviceOptions | undefined): CheckedFileDeviceOptions {
  textArgument('path', path);
  const known = { readOnly: true, shared: true, create: true } as const;
  const { readOnly = false, shared = false, create } = optionsArgument('options', options, known);
  booleanArgument('readOnly', readOnly);
  booleanArgument('shared', shared);
  if (create === undefined) return { readOnly, shared, create };
  const { sizeBytes, mode = 0o600 } = optionsArgument('create', create, { sizeBytes: true, mode: true });
  integerArgument('create.sizeBytes', sizeBytes, 0);
  integerArgument('create.mode', mode, 0, 0o7777);
  if (readOnly) throw new TypeError('a device that is created can not be read-only');
  return { readOnly, shared, create: { sizeBytes, mode } };
}
