/** Small repositories to start from, and the casts that act on them. */
import type { BackupSpec } from './log.ts';
import { type Contents, place } from './objects.ts';
import type { Configuration, Role } from './world.ts';

const backup = (volume: number, parent: number, items: number[], closure: number[]): BackupSpec => ({
  volume,
  parent,
  base: 0,
  items,
  closure,
});

/** A pack with a root in slot 0, over its own block in slot 1 and what else is given. */
const simple = (pack: number, ...others: number[]): Contents => ({ slots: [[place(pack, 1), ...others], []] });

/** Backup 4 is the first of genesis, 5 the second. */
export const FIRST = 4;
export const SECOND = 5;

/** Volume 0 with one backup: its root and its block in pack 0. */
export const ONE_BACKUP = {
  packs: [simple(0)],
  backups: [backup(0, 0, [place(0, 0)], [place(0, 1)])],
};

/** Volumes 0 and 1, each with one backup and one pack. */
export const TWO_VOLUMES = {
  packs: [simple(0), simple(1)],
  backups: [backup(0, 0, [place(0, 0)], [place(0, 1)]), backup(1, 0, [place(1, 0)], [place(1, 1)])],
};

/** Two roots share pack 0: that of backup 4 (its block in pack 1) and that of its sister 5 (in pack 2). */
export const SISTERS = {
  packs: [{ slots: [[place(1, 1)], [place(2, 1)]] }, { slots: [null, []] }, { slots: [null, []] }] as Contents[],
  backups: [backup(0, 0, [place(0, 0)], [place(1, 1)]), backup(1, 0, [place(0, 1)], [place(2, 1)])],
};

/** The same, but the blocks of both lie in pack 1. */
export const SISTERS_ONE_PACK = {
  packs: [{ slots: [[place(1, 0)], [place(1, 1)]] }, { slots: [[], []] }] as Contents[],
  backups: [backup(0, 0, [place(0, 0)], [place(1, 0)]), backup(1, 0, [place(0, 1)], [place(1, 1)])],
};

/** Backup 5 of volume 0 shares the block of backup 4: once 4 is forgotten, pack 0 is sparse. */
export const SPARSE = {
  packs: [simple(0), simple(1, place(0, 1))],
  backups: [backup(0, 0, [place(0, 0)], [place(0, 1)]), backup(0, FIRST, [place(1, 0)], [place(0, 1), place(1, 1)])],
};

/** The same, and volume 1 is another's: who dedups across volumes meets places that were left behind. */
export const SPARSE_TWO_VOLUMES = {
  packs: [simple(0), simple(1, place(0, 1))],
  backups: [backup(0, 0, [place(0, 0)], [place(0, 1)]), backup(1, 0, [place(1, 0)], [place(0, 1), place(1, 1)])],
};

export function scene(
  start: { packs: readonly Contents[]; backups: readonly BackupSpec[] },
  roles: readonly Role[],
  rest: Partial<Configuration> = {},
): Configuration {
  return { volumes: 2, ...start, roles, ...rest };
}
