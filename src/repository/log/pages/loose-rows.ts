import { sorting } from '../../../common/sort-in-steps.ts';
import { StepCounter, type Steps } from '../../../common/yield-to-event-loop.ts';
import { idRange, type KeyRange, packRange, VOLUME_DIGITS } from '../../format/catalogue-pages.ts';
import type { CommittedPack } from '../../format/log-entry.ts';
import {
  type BackupHold,
  type KnownPacks,
  type LogState,
  pinnedIds,
  type StoredBackup,
} from '../../format/log-state.ts';
import { type BackupRow, type PageRow, rowKey } from '../../format/page-codec.ts';
import { withHold, withoutHold } from './take-in.ts';

/** What a state says of a table outside of its pages, while that is being moved into pages. */

export interface Keyed {
  readonly key: string;
  readonly row: PageRow;
}

export interface LooseTable {
  /** Rows that are in no page, in the order of their keys. */
  loose(): Steps<Keyed[]>;
  /** Where the rows of pages are that have changed since the pages were written. */
  changed(): Steps<KeyRange[]>;
  /**
   * Rows as they are now, without those that are no longer needed.
   *
   * @param isLast - whether no later page has rows of the same volume as this one
   */
  renewed(rows: readonly Keyed[], isLast: (row: Keyed) => boolean): Steps<Keyed[]>;
  /** Whether rows of two keys should be in one page. */
  belongTogether(one: string, other: string): boolean;
  /** Is called when all pages are merged: nothing that the state says of rows in pages has to stay then. */
  merged(): void;
}

export class BackupTable implements LooseTable {
  readonly #state: LogState;
  readonly #pins: ReadonlySet<string>;
  readonly #forgotten = new Set<string>();
  readonly #holds = new Map<string, BackupHold | undefined>();
  readonly #pinned: Map<string, StoredBackup>;
  #areAllMerged = false;

  constructor(state: LogState) {
    this.#state = state;
    this.#pins = pinnedIds(state.sessions.values());
    this.#pinned = new Map(state.pinned);
  }

  *loose(): Steps<Keyed[]> {
    const { backups, heads } = this.#state;
    const rows: BackupRow[] = [];
    const steps = new StepCounter();
    for (const backup of backups.values()) {
      if (steps.isDue()) yield;
      rows.push(backup);
    }
    for (const [volume, { id, seq }] of heads) {
      if (steps.isDue()) yield;
      if (!backups.has(id)) rows.push({ volume, seq, id, isForgotten: true });
    }
    return yield* sorted(rows);
  }

  *changed(): Steps<KeyRange[]> {
    const steps = new StepCounter();
    const ranges: KeyRange[] = [];
    for (const id of this.#state.forgotten) {
      if (steps.isDue()) yield;
      this.#forgotten.add(id);
      ranges.push(idRange(id));
    }
    for (const [id, hold] of this.#state.holds) {
      if (steps.isDue()) yield;
      this.#holds.set(id, hold);
      ranges.push(idRange(id));
    }
    return ranges;
  }

  *renewed(rows: readonly Keyed[], isLast: (row: Keyed) => boolean): Steps<Keyed[]> {
    const steps = new StepCounter();
    const renewed: Keyed[] = [];
    for (const [at, keyed] of rows.entries()) {
      if (steps.isDue()) yield;
      const row = keyed.row as BackupRow;
      const { volume, seq, id } = row;
      const isForgotten = this.#forgotten.delete(id);
      const backup = withHold(row, this.#holds);
      if (backup !== undefined && !isForgotten) {
        renewed.push({ ...keyed, row: backup });
        continue;
      }
      // Its base must stay readable for a session that has pinned it.
      // @mutation pinned-rows-stay
      if (backup !== undefined && this.#pins.has(id)) this.#pinned.set(id, withoutHold(backup));
      const next = rows[at + 1];
      const isNewest = next === undefined ? isLast(keyed) : !this.belongTogether(keyed.key, next.key);
      // A volume whose newest backup is not known could get two backups with the same parent.
      // @mutation forgotten-heads-stay
      if (isNewest) renewed.push({ ...keyed, row: { volume, seq, id, isForgotten: true } });
    }
    return renewed;
  }

  belongTogether(one: string, other: string): boolean {
    return one.slice(0, VOLUME_DIGITS) === other.slice(0, VOLUME_DIGITS);
  }

  merged(): void {
    this.#areAllMerged = true;
  }

  /** What stays outside of pages. */
  left(): Pick<LogState, 'backups' | 'pinned' | 'heads' | 'forgotten' | 'holds'> {
    const isDone = this.#areAllMerged;
    return {
      ...{ backups: new Map(), heads: new Map(), pinned: this.#pinned },
      forgotten: isDone ? new Set() : this.#forgotten,
      holds: isDone ? new Map() : this.#holds,
    };
  }
}

export class KnownPackTable implements LooseTable {
  readonly #known: LogState['known'];
  /** By session: dead names that a page may have. Where there are tables, they stay named for these too. */
  readonly #dead = new Map<number, Set<string>>();
  #areAllMerged = false;

  constructor({ known }: LogState) {
    this.#known = known;
  }

  *loose(): Steps<Keyed[]> {
    const rows: CommittedPack[] = [];
    const steps = new StepCounter();
    for (const [session, { packs }] of this.#known) {
      for (const [random, facts] of packs) {
        if (steps.isDue()) yield;
        rows.push({ session, random, ...facts });
      }
    }
    return yield* sorted(rows);
  }

  *changed(): Steps<KeyRange[]> {
    const steps = new StepCounter();
    const ranges: KeyRange[] = [];
    for (const [session, { dead }] of this.#known) {
      if (dead.size > 0) this.#dead.set(session, new Set(dead));
      for (const random of dead) {
        if (steps.isDue()) yield;
        ranges.push(packRange(session, random));
      }
    }
    return ranges;
  }

  *renewed(rows: readonly Keyed[]): Steps<Keyed[]> {
    const steps = new StepCounter();
    const renewed: Keyed[] = [];
    for (const keyed of rows) {
      if (steps.isDue()) yield;
      const { session, random } = keyed.row as CommittedPack;
      if (this.#dead.get(session)?.has(random) !== true) renewed.push(keyed);
    }
    return renewed;
  }

  belongTogether(): boolean {
    return true;
  }

  merged(): void {
    this.#areAllMerged = true;
  }

  /** What stays outside of pages. */
  *left(): Steps<LogState['known']> {
    const steps = new StepCounter();
    const left = new Map<number, KnownPacks>();
    for (const [session, { tables, dead }] of this.#known) {
      if (steps.isDue()) yield;
      const inPages = this.#areAllMerged ? new Set<string>() : (this.#dead.get(session) ?? dead);
      const stillDead = tables.length > 0 ? dead : inPages;
      if (tables.length + stillDead.size > 0) left.set(session, { packs: new Map(), tables, dead: stillDead });
    }
    return left;
  }
}

function* sorted(rows: readonly PageRow[]): Steps<Keyed[]> {
  const steps = new StepCounter();
  const keyed: Keyed[] = [];
  for (const row of rows) {
    if (steps.isDue()) yield;
    keyed.push({ key: rowKey(row), row });
  }
  return yield* sorting(keyed, (one, other) => (one.key < other.key ? -1 : 1));
}
