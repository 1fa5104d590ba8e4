import { BackupRepository } from '../../../../src/repository/backup-repository.ts';
import { type CheckedUnlock, checkUnlock, type Unlock } from '../../../../src/repository/crypto/unlock.ts';
import { createRepository } from '../../../../src/repository/open/create-repository.ts';
import { openOrCreate } from '../../../../src/repository/open/open-repository.ts';
import { checkTuning, type OpenOptions } from '../../../../src/repository/open/repository-options.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget, type TargetCall } from '../../../../src/targets/decorators/forwarding-target.ts';
import { AT_ONCE, SMALL } from '../../support/repositories.ts';

/** A raw key, told apart by its first byte. */
export const keyOf = (first: number): { key: Uint8Array } => ({ key: new Uint8Array(32).fill(9).fill(first, 0, 1) });
export const OURS = keyOf(0);
export const THEIRS = keyOf(1);

export interface Kind {
  readonly encryption: Unlock | 'none';
  readonly singleWriter: boolean;
}

export const PLAIN: Kind = { encryption: 'none', singleWriter: false };
export const ENCRYPTED: Kind = { encryption: OURS, singleWriter: false };

/** Every kind of repository. */
export const KINDS: readonly (Kind & { readonly name: string })[] = [
  { name: 'plain', ...PLAIN },
  { name: 'encrypted', ...ENCRYPTED },
  { name: 'plain, single writer', ...PLAIN, singleWriter: true },
  { name: 'encrypted, single writer', ...ENCRYPTED, singleWriter: true },
];

export function create(target: CloudTarget, { encryption, singleWriter }: Kind): Promise<void> {
  return createRepository(target, { unlock: unlockOf(encryption), singleWriter }, {}, { pacing: AT_ONCE });
}

export function open(target: CloudTarget, options: OpenOptions = {}) {
  return openOrCreate(target, options, checkTuning(SMALL), { pacing: AT_ONCE });
}

export function openCreating(target: CloudTarget, { encryption, singleWriter }: Kind) {
  return open(target, { createIfMissing: { encryption, singleWriter } });
}

/** How a host opens what it knows to be there. */
export function optionsFor({ encryption, singleWriter }: Kind): OpenOptions {
  return { ...SMALL, singleWriter, ...(encryption === 'none' ? {} : { unlock: encryption }) };
}

export function opened(target: CloudTarget, kind: Kind, options: OpenOptions = {}): Promise<BackupRepository> {
  return BackupRepository.open(target, { ...optionsFor(kind), ...options });
}

function unlockOf(encryption: Unlock | 'none'): CheckedUnlock | undefined {
  return encryption === 'none' ? undefined : checkUnlock(encryption);
}

/** What happens to the calls of a target, which it counts. */
export class ScriptedTarget extends ForwardingTarget {
  calls = 0;
  readonly #script: <T>(index: number, invoke: () => Promise<T>, call: TargetCall | undefined) => Promise<T>;

  constructor(
    inner: CloudTarget,
    script: <T>(index: number, invoke: () => Promise<T>, call: TargetCall | undefined) => Promise<T>,
  ) {
    super(inner, 'this scripted target');
    this.#script = script;
  }

  protected override around<T>(call: TargetCall, invoke: () => Promise<T>): Promise<T> {
    return this.#script(this.calls++, invoke, call);
  }

  protected override async *forwardList(...args: Parameters<CloudTarget['list']>) {
    yield* await this.#script(this.calls++, () => Array.fromAsync(this.inner.list(...args)), undefined);
  }
}

/** All objects, but those of the probe that a crash may leave. */
export async function objectsOf(target: CloudTarget): Promise<Map<string, Uint8Array>> {
  const objects = new Map<string, Uint8Array>();
  for await (const { key } of target.list('')) {
    if (!key.startsWith('probe/')) objects.set(key, Uint8Array.from(await target.get(key)));
  }
  return objects;
}
