import { AsyncLocalStorage } from 'node:async_hooks';
import { limitArgument, optionsArgument } from '../../common/arguments.ts';
import { BackupError } from '../../common/errors.ts';

/**
 * The most that an operation may ask of the target. Whatever would take it past one of them is not sent.
 *
 * @public
 */
export interface RequestBudget {
  /** PUT requests. */
  readonly puts?: number | undefined;
  /** GET, HEAD and LIST requests. */
  readonly gets?: number | undefined;
  readonly uploadBytes?: number | undefined;
  readonly downloadBytes?: number | undefined;
}

const BUDGET_OPTIONS: Readonly<Record<keyof RequestBudget, true>> = {
  puts: true,
  gets: true,
  uploadBytes: true,
  downloadBytes: true,
};

/** What one operation has asked of the target, counted across everything that it calls and awaits. */
export class RequestMeter {
  puts = 0;
  gets = 0;
  deletes = 0;
  uploadBytes = 0;
  downloadBytes = 0;
  /** Bytes of bodies that the store has taken so far, those of puts that failed later or are under way included. */
  sentBytes = 0;
  readonly #budget: RequestBudget;

  /** @throws TypeError */
  constructor(budget: RequestBudget = {}) {
    this.#budget = checkBudget(budget);
  }

  get requests(): number {
    return this.puts + this.gets + this.deletes;
  }

  /** @throws `BUDGET_EXCEEDED` before anything is sent */
  put(bytes: number): void {
    this.#check('puts', this.puts + 1);
    this.#check('uploadBytes', this.uploadBytes + bytes);
    this.puts++;
    this.uploadBytes += bytes;
  }

  /** @param bytes - as far as it is known beforehand */
  get(bytes: number): void {
    this.#check('gets', this.gets + 1);
    this.#check('downloadBytes', this.downloadBytes + bytes);
    this.gets++;
  }

  #check(what: keyof RequestBudget, total: number): void {
    const most = this.#budget[what];
    if (most !== undefined && total > most) {
      throw new BackupError(
        'BUDGET_EXCEEDED',
        `the next request would bring this operation to ${total} ${what}, and its budget is ${most}`,
      );
    }
  }
}

const current = new AsyncLocalStorage<RequestMeter | undefined>();

/** Counts every request that `work` makes, directly or through others, for `meter`; `undefined` counts for nobody. */
export function metered<T>(meter: RequestMeter | undefined, work: () => T): T {
  return current.run(meter, work);
}

/** Whom the running code makes requests for. */
export function currentMeter(): RequestMeter | undefined {
  return current.getStore();
}

/** @throws TypeError */
export function checkBudget(budget: RequestBudget | undefined): RequestBudget {
  const checked = optionsArgument('budget', budget, BUDGET_OPTIONS);
  for (const [name, most] of Object.entries(checked)) {
    if (most !== undefined) limitArgument(`budget.${name}`, most, 0);
  }
  return checked;
}
