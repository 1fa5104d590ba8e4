import { fileURLToPath } from 'node:url';
import { BackupError } from '../../../../src/common/errors.ts';
import { FileTarget } from '../../../../src/targets/file/file-target.ts';

/** A process for `file-target.test.ts`, which kills it, or lets several race: `put-forever.ts FOLDER SEED [create]`. */

export const KEYS = ['a', 'b/c', 'packs/1/data', 'packs/2/data'];

/** A body that says which one it is in its first byte; no two have the same length. */
export function bodyOf(number: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(50_000 + number * 977).fill(number);
}

async function putForever(target: FileTarget, seed: number): Promise<void> {
  for (let round = seed; ; round++) {
    const key = KEYS[round % KEYS.length] ?? 'a';
    const put = target.put(key, bodyOf(round % 251));
    process.send?.(round);
    await put;
    if (round % 7 === 0) await target.delete(KEYS[2] ?? 'a');
  }
}

/** Tells which of twenty objects this process has created. */
async function createAll(target: FileTarget, seed: number): Promise<void> {
  const won: number[] = [];
  for (let number = 0; number < 20; number++) {
    try {
      await target.put(`race/${number}`, bodyOf(seed), { createOnly: true });
      won.push(number);
    } catch (error) {
      if (!BackupError.is(error, 'OBJECT_EXISTS')) throw error;
    }
  }
  process.send?.(won, () => process.disconnect());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder = '', seed = '0', mode] = process.argv;
  const target = new FileTarget(folder);
  await (mode === 'create' ? createAll(target, Number(seed)) : putForever(target, Number(seed)));
}
