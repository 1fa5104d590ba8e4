import { BackupError } from '../../common/errors.ts';
import { mapConcurrently } from '../../common/map-concurrently.ts';
import type { CloudTarget } from '../../targets/cloud-target.ts';
import { packKey } from '../format/object-keys.ts';
import type { PackName } from '../format/record.ts';
import type { PackListing } from '../prune/pack-listing.ts';
import type { Damages } from './damages.ts';
import type { NeededPacks } from './needed-packs.ts';
import { corrupt, type ExpectedPack, lengthFault } from './pack-check.ts';
import type { LoggedPacks } from './whole-log.ts';

const STATS_AT_A_TIME = 32;

/** What looking at the packs works with. `damages` gains those that are missing or of another length. */
export interface PackLook {
  readonly target: CloudTarget;
  readonly damages: Damages;
  readonly signal: AbortSignal;
}

/** Every pack that is needed and there, after a look whether it is as long as it was. */
export async function expectedPacks(
  needed: NeededPacks,
  listing: PackListing,
  logged: LoggedPacks,
  { target, damages, signal }: PackLook,
): Promise<ExpectedPack[]> {
  const expected: ExpectedPack[] = [];
  const look = async (pack: PackName) => {
    const key = packKey(pack);
    let listedBytes = listing.sizeOf(key);
    if (listedBytes === 0) {
      // A listing may miss what was stored after it, and be wrong.
      const info = await target.stat(key, { signal });
      if (info === undefined) {
        damages.add({ pack, error: new BackupError('PACK_MISSING', `${key} is not there`), isMissing: true });
        return;
      }
      listedBytes = info.size;
    }
    const each = { pack, listedBytes, logged: logged.get(key) };
    const fault = lengthFault(each);
    if (fault !== undefined) damages.add(fault);
    else if (needed.endOf(key) > listedBytes) {
      const error = corrupt(pack, `it has ${listedBytes} bytes, and maps name more`);
      damages.add({ pack, error, end: listedBytes });
    }
    expected.push(each);
  };
  for await (const _ of mapConcurrently([...needed.packs()], look, STATS_AT_A_TIME)) signal.throwIfAborted();
  return expected;
}
