import { booleanArgument, integerArgument, optionsArgument } from '../../common/arguments.ts';

/** Options of {@link FileTarget}. @public */
export interface FileTargetOptions {
  /**
   * Whether the first put may create the folder, or use one that holds no objects. Set it to false for a disk or share that may
   * not be mounted: a missing folder or an empty mount point is `FOLDER_NOT_FOUND` then.
   *
   * @defaultValue true
   */
  createFolder?: boolean | undefined;
  /** The permissions of objects, whatever the umask. Ignored on Windows. @defaultValue 0o600 */
  fileMode?: number | undefined;
  /** The permissions of directories that are created, whatever the umask. Ignored on Windows. @defaultValue 0o700 */
  directoryMode?: number | undefined;
}

const KNOWN = { createFolder: true, fileMode: true, directoryMode: true } as const;

/** Returns the options with their defaults, or throws a `TypeError`. */
export function checkFileTargetOptions(options: FileTargetOptions | undefined) {
  const { createFolder = true, fileMode = 0o600, directoryMode = 0o700 } = optionsArgument('options', options, KNOWN);
  return {
    createFolder: booleanArgument('createFolder', createFolder),
    fileMode: integerArgument('fileMode', fileMode, 0, 0o7777),
    directoryMode: integerArgument('directoryMode', directoryMode, 0, 0o7777),
  };
}
