import { booleanArgument, integerArgument, optionsArgument, textArgument } from '../common/arguments.ts';

/** Options of {@link FileDevice.open}. @public */
export interface FileDeviceOptions {
  /** Refuse writes with `READ_ONLY`. Several readers may open the file at once. @defaultValue false */
  readOnly?: boolean | undefined;
  /** Take no lock, so that other devices and programs may open the file, too. @defaultValue false */
  shared?: boolean | undefined;
  /** Create the file, as a sparse one. It must not exist yet (`DEVICE_EXISTS`). */
  create?: FileDeviceCreateOptions | undefined;
}

/** How {@link FileDevice.open} creates a file. @public */
export interface FileDeviceCreateOptions {
  /** The size of the device, in bytes. */
  sizeBytes: number;
  /** The permissions of the file, whatever the umask. Ignored on Windows. @defaultValue 0o600 */
  mode?: number | undefined;
}

/** Returns the options with their defaults, or throws a `TypeError`. */
export function checkFileDeviceOptions(path: string, options: FileDeviceOptions | undefined) {
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
