import type { TargetClock } from '../../common/clock.ts';
import { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import type { CloudTarget, TargetMember } from '../../targets/cloud-target.ts';
import { MeteredTarget } from '../../targets/decorators/request-meter.ts';
import type { RepositoryContext } from '../context/repository-context.ts';
import { packKey } from '../format/object-keys.ts';
import { listPacks } from '../prune/pack-listing.ts';
import { checkPack, type ExpectedPack } from './pack-check.ts';
import type { ReplicaDamage } from './verify-options.ts';
import { VerifyRetries } from './verify-retries.ts';

/** What the members of a target are compared with. */
export interface MemberChecksParts {
  readonly context: RepositoryContext;
  readonly signal: AbortSignal;
  readonly clock: Pick<TargetClock, 'sleep'> | undefined;
  /** Packs that backups need, as the first member has them. */
  readonly expected: readonly ExpectedPack[];
  /** Packs of which all data is read. */
  readonly read: readonly ExpectedPack[];
  /** Called with the number of bytes of packs that were read. */
  readonly onBytes: (bytes: number) => void;
}

/** What every member must have in addition to packs. Objects under other prefixes may be missing. */
const PREFIXES = ['format', 'keys/', 'log/', 'catalogue/'] as const;
const PACKS_AT_A_TIME = 3;

/**
 * Checks whether each further member of a target that keeps objects in several members has what the repository needs: the
 * log, slots and packs in their lengths, `format` and slots in their bytes, and the content of the packs that are read.
 */
export async function checkMembers(
  members: readonly TargetMember[] | undefined,
  parts: MemberChecksParts,
): Promise<ReplicaDamage[]> {
  const [first, ...others] = members ?? [];
  if (first === undefined) return [];
  const patient = ({ target }: TargetMember) =>
    new VerifyRetries(new MeteredTarget(target), parts.signal, parts.clock).target;
  const damaged: ReplicaDamage[] = [];
  for (const member of others) {
    try {
      damaged.push(...(await new MemberCheck(member.name, patient(first), patient(member), parts).run()));
    } catch (error) {
      parts.signal.throwIfAborted();
      if (!BackupError.is(error)) throw error;
      const { code, retryable, retryAfterMs } = error;
      throw new BackupError(code, `${member.name}: ${error.message}`, { cause: error, retryable, retryAfterMs });
    }
  }
  return damaged;
}

/** Objects of the log and of the catalogue are compared by their lengths. */
function isByLength(key: string): boolean {
  return key.startsWith('log/') || key.startsWith('catalogue/');
}

class MemberCheck {
  readonly #name: string;
  readonly #first: CloudTarget;
  readonly #member: CloudTarget;
  readonly #parts: MemberChecksParts;
  readonly #damaged: ReplicaDamage[] = [];

  constructor(name: string, first: CloudTarget, member: CloudTarget, parts: MemberChecksParts) {
    this.#name = name;
    this.#first = first;
    this.#member = member;
    this.#parts = parts;
  }

  async run(): Promise<ReplicaDamage[]> {
    for (const prefix of PREFIXES) await this.#compare(prefix);
    await this.#packs();
    return this.#damaged;
  }

  /** Compares the lengths of objects under a prefix, and the bytes of `format` and slots. */
  async #compare(prefix: string): Promise<void> {
    const { signal } = this.#parts;
    const sizes = new Map<string, number>();
    // The first member is listed first, because a fan-out puts every object there first.
    for await (const { key, size } of this.#first.list(prefix, { signal })) sizes.set(key, size);
    for await (const { key, size } of this.#member.list(prefix, { signal })) {
      if (sizes.get(key) === size && (isByLength(prefix) || (await this.#isAlike(key)))) sizes.delete(key);
    }
    for (const key of sizes.keys()) await this.#lookAgain(key);
  }

  async #isAlike(key: string): Promise<boolean> {
    const { signal } = this.#parts;
    const bodies = [this.#first, this.#member].map((target) => target.get(key, { signal }));
    const [own, other] = (await Promise.all(bodies)) as [Uint8Array, Uint8Array];
    return Buffer.compare(own, other) === 0;
  }

  /** Damage is believed only after a second look: other hosts may have put and deleted objects meanwhile. */
  async #lookAgain(key: string): Promise<void> {
    const { signal } = this.#parts;
    const [own, other] = [await this.#first.stat(key, { signal }), await this.#member.stat(key, { signal })];
    if (own === undefined) return;
    if (other === undefined) return this.#note(key, new BackupError('OBJECT_NOT_FOUND', `${key} is not there`));
    if (own.size === other.size && (isByLength(key) || (await this.#isAlike(key)))) return;
    const how = own.size === other.size ? 'other bytes' : `${other.size} bytes instead of ${own.size}`;
    this.#note(key, new BackupError('REPOSITORY_CORRUPT', `${key} has ${how}`));
  }

  async #packs(): Promise<void> {
    const { context, signal, expected, read, onBytes } = this.#parts;
    const listing = await listPacks({ target: this.#member }, { signal });
    const isRead = new Set(read.map(({ pack }) => packKey(pack)));
    const check = async (each: ExpectedPack) => {
      const key = packKey(each.pack);
      const listedBytes = listing.sizeOf(key) || ((await this.#member.stat(key, { signal }))?.size ?? 0);
      if (listedBytes === 0) {
        // It may have been condemned and deleted everywhere meanwhile.
        if ((await this.#first.stat(key, { signal })) === undefined) return;
        this.#note(key, new BackupError('PACK_MISSING', `${key} is not there`));
      } else if (listedBytes !== each.listedBytes) {
        const how = `it has ${listedBytes} bytes, and the first member's ${each.listedBytes}`;
        this.#note(key, new BackupError('PACK_CORRUPT', `${key} is damaged: ${how}`));
      } else if (isRead.has(key)) {
        const damage =
          (await checkPack(context, this.#member, each, { signal, onBytes })) &&
          (await checkPack(context, this.#member, each, { signal, onBytes: () => {} }));
        if (damage !== undefined) this.#note(key, damage.error);
      }
    };
    for await (const _ of mapConcurrently(expected, check, PACKS_AT_A_TIME)) signal.throwIfAborted();
  }

  #note(object: string, error: BackupError): void {
    this.#damaged.push({ member: this.#name, object, error });
  }
}
