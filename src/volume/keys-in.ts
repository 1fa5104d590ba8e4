const NONE: readonly number[] = [];

/** The keys of a map from `first` to before `end`, in no order: one look at each key, or at each number if those are fewer. */
export function keysIn(map: ReadonlyMap<number, unknown>, first: number, end: number): readonly number[] {
  if (map.size === 0) return NONE;
  const keys: number[] = [];
  if (end - first < map.size) {
    for (let key = first; key < end; key++) if (map.has(key)) keys.push(key);
  } else {
    for (const key of map.keys()) if (key >= first && key < end) keys.push(key);
  }
  return keys;
}
