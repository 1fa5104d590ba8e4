/** A run of bytes. Its field names differ from those of a block range on purpose. @public */
export interface ByteRange {
  /** Bytes from the start of the device or object. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}
