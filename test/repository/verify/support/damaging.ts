import type { RepositoryContext } from '../../../../src/repository/context/repository-context.ts';
import { packKey } from '../../../../src/repository/format/object-keys.ts';
import type { FooterRow } from '../../../../src/repository/format/pack-footer.ts';
import type { RecordKind } from '../../../../src/repository/format/record.ts';
import { openRepository } from '../../../../src/repository/open/open-repository.ts';
import { checkTuning } from '../../../../src/repository/open/repository-options.ts';
import { readPackFooter } from '../../../../src/repository/packs/pack-reader.ts';
import type { CloudTarget } from '../../../../src/targets/cloud-target.ts';
import { ForwardingTarget } from '../../../../src/targets/decorators/forwarding-target.ts';
import { encryptionOf, SMALL } from '../../support/repositories.ts';

/** Ways to damage what a repository has stored. */

/** What operations of an open repository work with. */
export function contextOf(
  target: CloudTarget,
  isEncrypted: boolean,
  options: { readOnly?: boolean } = {},
): Promise<RepositoryContext> {
  const encryption = encryptionOf(isEncrypted);
  const unlock = encryption === 'none' ? undefined : encryption;
  return openRepository(target, { ...options, unlock }, checkTuning(SMALL));
}

/** A record as its pack's footer lists it. */
export interface StoredRow extends FooterRow {
  readonly key: string;
}

/**
 * Every record of every pack. Names of packs are random: the packs come in an order that their contents give, by session and
 * by what their first records are of, so that a test which takes the first or the last one always takes the same.
 */
export async function storedRows({ target, keys }: RepositoryContext): Promise<StoredRow[]> {
  const packs: { readonly order: string; readonly rows: StoredRow[] }[] = [];
  for await (const { key, size } of target.list('packs/')) {
    const [, session, random] = key.split('/') as [string, string, string];
    const pack = { session: Number.parseInt(session, 16), random };
    if (packKey(pack) !== key) throw new Error(`${key} is no pack`);
    const footer = await readPackFooter(target, pack, size, keys.footerKey);
    const rows = [...footer.rows].map((row) => ({ ...row, key }));
    const contents = rows.map(({ kind, hint }) => `${kind} ${String(hint).padStart(10, '0')}`);
    packs.push({ order: [session, ...contents].join(), rows });
  }
  const orders = new Set(packs.map(({ order }) => order));
  if (orders.size !== packs.length) throw new Error('two packs of a session are alike, and only chance orders them');
  return packs.sort((a, b) => (a.order < b.order ? -1 : 1)).flatMap(({ rows }) => rows);
}

/** The first record of a kind. */
export async function firstOf(context: RepositoryContext, kind: RecordKind): Promise<StoredRow> {
  const row = (await storedRows(context)).find((each) => each.kind === kind);
  if (row === undefined) throw new Error(`there is no record of kind ${kind}`);
  return row;
}

/** Flips a bit of an object. @returns what puts it back */
export async function flip(target: CloudTarget, key: string, at: number): Promise<() => Promise<void>> {
  const whole = Uint8Array.from(await target.get(key));
  const damaged = whole.slice();
  const index = at < 0 ? damaged.length + at : at;
  damaged[index]! ^= 0x10;
  await target.put(key, damaged);
  return async () => {
    await target.put(key, whole.slice());
  };
}

/** Flips a bit in the middle of a record. */
export function flipRecord(
  target: CloudTarget,
  { key, offset, storedLength }: StoredRow,
): Promise<() => Promise<void>> {
  return flip(target, key, offset + Math.floor(storedLength / 2));
}

/** A store without checksums. */
export class WithoutChecksums extends ForwardingTarget {
  constructor(inner: CloudTarget) {
    super(inner, 'this target');
  }

  override get capabilities() {
    return { ...this.inner.capabilities, checksums: false };
  }
}

/** Runs something once, before the first call that matches. */
export class Interrupted extends ForwardingTarget {
  readonly #matches: (operation: string, subject: string) => boolean;
  #before: (() => Promise<unknown>) | undefined;

  constructor(
    inner: CloudTarget,
    matches: (operation: string, subject: string) => boolean,
    before: () => Promise<unknown>,
  ) {
    super(inner, 'this target');
    this.#matches = matches;
    this.#before = before;
  }

  protected override async around<T>(
    call: { readonly operation: string; readonly subject: string },
    invoke: () => Promise<T>,
  ): Promise<T> {
    const before = this.#before;
    if (before !== undefined && this.#matches(call.operation, call.subject)) {
      this.#before = undefined;
      await before();
    }
    return invoke();
  }
}
