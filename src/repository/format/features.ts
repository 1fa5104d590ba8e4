import { BackupError } from '../../common/errors.ts';

/**
 * What a newer program may ask of this one by name: `docs/FORMAT.md`, section 2. `format` says it to programs that open the
 * repository, and a `config` entry of the log to those that have it open.
 */

/** Names of `features` that this library knows: others keep it from writing. */
const KNOWN_FEATURES: readonly string[] = [];
/** Names of `readerFeatures` that it knows: others keep it from reading, too. */
const KNOWN_READER_FEATURES: readonly string[] = [];

/** @throws `REPOSITORY_UNSUPPORTED` */
export function requireWriterFeatures(features: Iterable<string>): void {
  requireKnown('write to', features, KNOWN_FEATURES);
}

export function knowsWriterFeatures(features: ReadonlySet<string>): boolean {
  return [...features].every((feature) => KNOWN_FEATURES.includes(feature));
}

/** @throws `REPOSITORY_UNSUPPORTED` */
export function requireReaderFeatures(readerFeatures: Iterable<string>): void {
  requireKnown('read', readerFeatures, KNOWN_READER_FEATURES);
}

export function unsupported(action: 'read' | 'write to', needed: string): BackupError {
  const message = `to ${action} this repository a program must know ${needed}: update this library`;
  return new BackupError('REPOSITORY_UNSUPPORTED', message);
}

function requireKnown(action: 'read' | 'write to', features: Iterable<string>, known: readonly string[]): void {
  for (const feature of features) {
    if (!known.includes(feature)) {
      throw unsupported(action, `the feature ${JSON.stringify(feature.slice(0, 64))}`);
    }
  }
}
