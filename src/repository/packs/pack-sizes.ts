/** How large packs are, in bytes: the one home of these numbers. */

const MIB = 1024 * 1024;

/** Of swept blocks and of repacked records: 512 incompressible blocks of 64 KiB, sealed, with a footer. */
export const DEFAULT_PACK_BYTES = 32 * MIB + 64 * 1024;
/** What a host may choose. */
export const LEAST_PACK_BYTES = 64 * 1024;
export const MOST_PACK_BYTES = 1024 * MIB;
/** The most of intercepted blocks: they wait for their pack in the room for pre-images, so theirs are smaller. */
export const INTERCEPTED_PACK_BYTES = 8 * MIB;
