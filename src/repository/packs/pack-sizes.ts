/** Sizes of packs, in bytes. All of these numbers are defined here; the TSDoc of `packBytes` repeats the first three in prose. */

const MIB = 1024 * 1024;

/** A pack of swept blocks or of repacked records: 512 incompressible blocks of 64 KiB, sealed, with a footer. */
export const DEFAULT_PACK_BYTES = 32 * MIB + 64 * 1024;
/** The sizes that a host may choose. */
export const LEAST_PACK_BYTES = 64 * 1024;
export const MOST_PACK_BYTES = 1024 * MIB;
/** The largest pack of intercepted blocks: they wait for it in the memory for pre-images, so it is smaller than others. */
export const INTERCEPTED_PACK_BYTES = 8 * MIB;
