import { mapConcurrently } from '../../common/map-concurrently.ts';
import { sortInSteps } from '../../common/sort-in-steps.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import type { ProgressReporter } from '../context/progress.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import type { PackListing } from '../prune/pack-listing.ts';
import type { Damages } from './damages.ts';
import type { NeededPacks } from './needed-packs.ts';
import { checkPack, type ExpectedPack } from './pack-check.ts';
import type { VerifiedTimes } from './verified-times.ts';

export interface PackChecksParts {
  readonly context: RepositoryContext;
  /** The context's, tried again. */
  readonly target: CloudTarget;
  readonly damages: Damages;
  readonly progress: ProgressReporter;
  readonly signal: AbortSignal;
  /** Verified packs between two notes of which they are. @defaultValue 64 */
  readonly saveEveryPacks?: number | undefined;
}

const PACKS_AT_A_TIME = 3;
const STATS_AT_A_TIME = 32;
/** 2 GiB of packs of the usual size. */
const SAVE_EVERY_PACKS = 64;

/** Looks at packs one by one, by the store's checksums or by all of their data, and counts. */
export class PackChecks {
  verifiedBytes = 0;
  verifiedPacks = 0;
  withoutChecksum = 0;
  /** Packs of which all was read and found to be good. */
  readonly good: PackName[] = [];
  readonly #parts: PackChecksParts;

  constructor(parts: PackChecksParts) {
    this.#parts = parts;
  }

  /** What the store says of packs. One that it says to have changed is downloaded, to see what is wrong with it. */
  async checkSums(expected: readonly ExpectedPack[], needed: NeededPacks): Promise<void> {
    const total = expected.reduce((sum, { listedBytes }) => sum + listedBytes, 0);
    this.#parts.progress.begin('checksums', total);
    const keepsSums = this.#parts.target.capabilities.checksums === true;
    const check = async (each: ExpectedPack) => {
      const { pack, logged, listedBytes } = each;
      const key = packKey(pack);
      const info = keepsSums ? await this.#parts.target.stat(key, { signal: this.#parts.signal }) : undefined;
      this.#parts.progress.advance(listedBytes);
      if (info?.sha256 === undefined || logged === undefined) {
        if (keepsSums) await needed.checkFooter(pack);
        this.withoutChecksum++;
        return;
      }
      if (info.sha256 === Buffer.from(logged.sha256).toString('hex')) {
        if (this.#parts.damages.has(key)) return;
        this.verifiedPacks++;
        this.verifiedBytes += listedBytes;
        return;
      }
      if (await this.#isGood(each, false)) this.withoutChecksum++; // Whatever it is that the store keeps there.
    };
    for await (const _ of mapConcurrently(expected, check, STATS_AT_A_TIME)) this.#parts.signal.throwIfAborted();
  }

  async checkData(wanted: readonly ExpectedPack[], times: VerifiedTimes, listing: PackListing): Promise<void> {
    const total = wanted.reduce((sum, { listedBytes }) => sum + listedBytes, 0);
    this.#parts.progress.begin('data', total);
    const order = await sortInSteps(
      wanted.map((each) => ({ ...each, at: times.of(each.pack) })),
      (a, b) => a.at - b.at,
    );
    const saveEvery = this.#parts.saveEveryPacks ?? SAVE_EVERY_PACKS;
    const check = async (each: ExpectedPack) => ({ ...each, isGood: await this.#isGood(each, true) });
    let unsaved = 0;
    for await (const { pack, listedBytes, isGood } of mapConcurrently(order, check, PACKS_AT_A_TIME)) {
      this.#parts.signal.throwIfAborted();
      if (!isGood || this.#parts.damages.has(packKey(pack))) continue; // It stays among those that come first.
      this.good.push(pack);
      this.verifiedPacks++;
      this.verifiedBytes += listedBytes;
      times.note(pack, this.#parts.context.now());
      if (++unsaved >= saveEvery) {
        unsaved = 0;
        await this.#save(times, listing);
      }
    }
    await this.#save(times, listing);
  }

  async #save(times: VerifiedTimes, listing: PackListing): Promise<void> {
    if (!this.#parts.context.readOnly) await times.save(listing.packs);
  }

  /** Downloads a pack, a second time before it is believed to be damaged. */
  async #isGood(expected: ExpectedPack, isCounted: boolean): Promise<boolean> {
    const signal = this.#parts.signal;
    for (let look = 1; ; look++) {
      const onBytes = (bytes: number) => this.#parts.progress.advance(look === 1 && isCounted ? bytes : 0);
      const damage = await checkPack(this.#parts.context, this.#parts.target, expected, { signal, onBytes });
      if (damage === undefined) return true;
      if (look < 2) continue;
      this.#parts.damages.add(damage);
      return false;
    }
  }
}
