import { described, functionArgument, plainObjectArgument, textArgument } from '../common/arguments.ts';
import { BackupError } from '../common/errors.ts';
import { isBytes } from '../common/realms.ts';

/** What a transform is given beside the bytes of a block. @public */
export interface TransformContext {
  /** The number of the block, from 0. */
  readonly block: number;
  /** Bytes of the block on the device, before any transform. */
  readonly blockBytes: number;
}

/**
 * Changes the bytes of one block on its way to the store, and changes them back on the way to a device.
 *
 * The transforms of a pipeline are applied in their order, and undone in the opposite order. Both functions return memory
 * of their own, or a part of what they were given; they never change what they were given. They are called for several
 * blocks at the same time.
 *
 * @example
 * ```ts
 * const inverted: BlockTransform = {
 *   name: 'inverted',
 *   apply: (bytes) => bytes.map((byte) => ~byte),
 *   undo: (bytes) => bytes.map((byte) => ~byte),
 * };
 * ```
 *
 * @public
 */
export interface BlockTransform {
  /** For messages of errors. */
  readonly name: string;
  /** Changes the bytes of a block before it is stored. What it throws ends the pipeline, without another attempt. */
  apply(bytes: Uint8Array, context: TransformContext): Uint8Array | Promise<Uint8Array>;
  /**
   * Changes the bytes back.
   *
   * @throws any error, if the bytes are not what `apply` returned; the restore then rejects with `BLOCK_CORRUPT`
   */
  undo(bytes: Uint8Array, context: TransformContext): Uint8Array | Promise<Uint8Array>;
}

/** Applies transforms in their order. */
export async function applyTransforms(
  transforms: readonly BlockTransform[],
  raw: Uint8Array,
  context: TransformContext,
): Promise<Uint8Array> {
  let bytes = raw;
  for (const transform of transforms) bytes = bytesOf(transform, 'apply', await transform.apply(bytes, context));
  return bytes;
}

/** Undoes transforms, the last one first. @throws `BLOCK_CORRUPT` with what a transform threw as its cause */
export async function undoTransforms(
  transforms: readonly BlockTransform[],
  stored: Uint8Array,
  context: TransformContext,
): Promise<Uint8Array> {
  let bytes = stored;
  // @mutation undone-last-first
  const lastFirst = transforms.toReversed();
  for (const transform of lastFirst) {
    try {
      bytes = bytesOf(transform, 'undo', await transform.undo(bytes, context));
    } catch (cause) {
      const how = BackupError.is(cause) ? cause.message : String(cause);
      throw new BackupError('BLOCK_CORRUPT', `the transform ${transform.name} refuses its bytes: ${how}`, { cause });
    }
  }
  return bytes;
}

/** @throws TypeError */
export function transformsArgument(value: unknown): readonly BlockTransform[] {
  if (!Array.isArray(value)) throw new TypeError(`options.transforms must be an array, not ${described(value)}`);
  for (const transform of value as unknown[]) {
    if (typeof transform === 'function')
      throw new TypeError('each of options.transforms must be a transform, not a function; compression() makes one');
    plainObjectArgument('each of options.transforms', transform);
    const { name, apply, undo } = transform as BlockTransform;
    textArgument('the name of each of options.transforms', name);
    functionArgument(`apply of ${name} in options.transforms`, apply);
    functionArgument(`undo of ${name} in options.transforms`, undo);
  }
  return [...(value as BlockTransform[])];
}

function bytesOf(transform: BlockTransform, what: 'apply' | 'undo', bytes: unknown): Uint8Array {
  if (isBytes(bytes)) return bytes;
  throw new TypeError(`${what} of the transform ${transform.name} must return bytes, not ${described(bytes)}`);
}
