import type { AbortOptions } from '../../../../src/common/abort.ts';
import type { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import { checkUnlock } from '../../../../src/repository/crypto/unlock.ts';
import { createRepository } from '../../../../src/repository/open/create-repository.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { FaultyTarget } from '../../../../src/testing/faulty-target.ts';
import { AT_ONCE, encryptionOf, openIn } from '../../support/repositories.ts';
import { ImpatientTarget } from './impatient-target.ts';
import { Mishaps } from './mishaps.ts';

/** The least that the format allows, so that few blocks make a tree of several levels. */
export const SMALL_FAN_OUT = 8;

/** A repository of a small fan-out. */
export async function createSmall(store: CloudTarget, isEncrypted: boolean, options: AbortOptions = {}): Promise<void> {
  const encryption = encryptionOf(isEncrypted);
  const unlock = encryption === 'none' ? undefined : checkUnlock(encryption);
  await createRepository(store, { unlock, singleWriter: false }, options, { fanOut: SMALL_FAN_OUT, pacing: AT_ONCE });
}

export interface HostOptions {
  /** Shared by hosts of whose calls one is to go wrong. */
  readonly mishaps?: Mishaps;
  /** Between the repository and what goes wrong. */
  readonly around?: (target: CloudTarget) => CloudTarget;
}

/** One host on a store: a repository that it has open, and what goes wrong between the two. */
export class Host {
  readonly mishaps: Mishaps;
  readonly #store: CloudTarget;
  readonly #isEncrypted: boolean;
  readonly #around: (target: CloudTarget) => CloudTarget;
  repository!: BackupRepository;

  constructor(
    store: CloudTarget,
    isEncrypted: boolean,
    { mishaps = new Mishaps(), around = (same: CloudTarget) => same }: HostOptions = {},
  ) {
    this.#store = store;
    this.#isEncrypted = isEncrypted;
    this.mishaps = mishaps;
    this.#around = around;
  }

  /** The store, as this host has it. */
  get target(): CloudTarget {
    return this.#around(new ImpatientTarget(new FaultyTarget(this.#store, this.mishaps), this.mishaps));
  }

  /** Opens the repository anew. Who had it open before closes that, or has died. */
  async open(options: AbortOptions = {}): Promise<this> {
    this.repository = await openIn(this.target, this.#isEncrypted, options);
    return this;
  }

  /** As if the process had died: nothing that is under way is ended in the log. */
  async die(): Promise<void> {
    this.mishaps.arrange({ after: 0, times: Number.POSITIVE_INFINITY, kind: 'fail-before' });
    await this.repository.close({ jobs: 'cancel' });
    this.mishaps.arrange(undefined);
  }
}
