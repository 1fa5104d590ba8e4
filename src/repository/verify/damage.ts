// The lead's placeholder, so that jobs compile: whoever writes verify replaces this file (same names and shapes).
import type { AbortOptions } from '../../common/abort.ts';
import type { BlockRange } from '../../state/block-range.ts';
import type { BlockMap } from '../map/block-map.ts';
import type { RepositoryContext } from '../repository-context.ts';

export async function damagedBlocksOf(_c: RepositoryContext, _m: BlockMap, _o: AbortOptions): Promise<BlockRange[]> {
  return [];
}
export async function needsRebuild(_c: RepositoryContext, _m: BlockMap, _o: AbortOptions): Promise<boolean> {
  return false;
}
