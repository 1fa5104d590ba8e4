/** When rows of a state are moved into pages, and how many make a page: a writer's choice, within what the format allows. */
export interface PageLimits {
  /** Most rows of a page that is written. */
  readonly rows: number;
  /** Rows of a page weigh no more in memory, unless one row alone does. */
  readonly weight: number;
  /** What the rows outside of pages may weigh before they are moved. */
  readonly looseWeight: number;
}

/** A page has some 100 KB, and one is written for every hundred backups or so. */
export const PAGE_LIMITS: PageLimits = { rows: 1024, weight: 4 * 2 ** 20, looseWeight: 2 ** 18 };
