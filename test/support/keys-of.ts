import type { CloudTarget } from '../../src/targets/cloud-target.ts';

/** All keys of a target, in the order in which it lists them. */
export async function keysOf(target: Pick<CloudTarget, 'list'>, prefix = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of target.list(prefix)) keys.push(key);
  return keys;
}
