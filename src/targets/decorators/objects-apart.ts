import type { CloudTarget, ObjectInfo } from '../cloud-target.ts';

/** An object that a replica lacks, or has in another length. */
export interface MissingObject {
  readonly key: string;
  /** Whether the replica has none under this key. */
  readonly isNew: boolean;
}

/**
 * What a replica lacks of what the primary lists, in key order, as both listings are read side by side. Contents of the same
 * length are not compared.
 *
 * @param options.extras - is given what only the replica has
 * @param options.except - keys that begin with it are passed over
 */
export async function* objectsApart(
  primary: CloudTarget,
  replica: CloudTarget,
  options: { readonly signal: AbortSignal | undefined; readonly extras: ObjectInfo[]; readonly except: string },
): AsyncGenerator<MissingObject> {
  const { signal, extras, except } = options;
  const theirs = replica.list('', { signal })[Symbol.asyncIterator]();
  let their = await theirs.next();
  const isTheirsFirst = (key: string | undefined) =>
    !their.done && (key === undefined || (their.value as ObjectInfo).key < key);
  const takeExtra = async () => {
    const info = their.value as ObjectInfo;
    if (!info.key.startsWith(except)) extras.push(info);
    their = await theirs.next();
  };
  try {
    for await (const { key, size } of primary.list('', { signal })) {
      while (isTheirsFirst(key)) await takeExtra();
      const info = their.done ? undefined : (their.value as ObjectInfo);
      const isThere = info?.key === key;
      if (isThere) their = await theirs.next();
      const isAlike = isThere && info.size === size;
      if (!isAlike && !key.startsWith(except)) yield { key, isNew: !isThere };
    }
    while (isTheirsFirst(undefined)) await takeExtra();
  } finally {
    if (!their.done) await theirs.return?.();
  }
}
