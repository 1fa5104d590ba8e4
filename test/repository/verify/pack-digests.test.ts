import { expect, test } from 'vitest';
import { packKey } from '../../../src/repository/format/object-keys.ts';
import { packHead } from '../../../src/repository/format/pack-footer.ts';
import { Codec, RecordKind } from '../../../src/repository/format/record.ts';
import { checkPack } from '../../../src/repository/verify/pack-check.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { randomBytes } from '../../support/randomness.ts';
import { sealFooter } from '../format/support/codecs-at-once.ts';
import { createIn } from '../support/repositories.ts';
import { contextOf } from './support/damaging.ts';

/** A sound pack of one block, but for the digest in its footer, which some adopter would believe. */
test('a pack whose footer is of other records is found, also where no entry of the log is read', async () => {
  const target = new MemoryTarget();
  await (await createIn(target)).close();
  const context = await contextOf(target, false);
  const raw = randomBytes(100);
  const body = Buffer.concat([packHead(), raw]);
  const row = { kind: RecordKind.block, id: context.keys.contentId(raw), offset: 8, storedLength: 100, hint: 0 };
  const rows = [{ ...row, codec: Codec.raw, rawLength: 100 }];
  const pack = { session: 1, random: '0'.repeat(32) };
  const damageOf = async (hashed: Uint8Array) => {
    const bodySha256 = Buffer.from(await crypto.subtle.digest('SHA-256', Uint8Array.from(hashed)));
    const footer = sealFooter({ rows, bodyBytes: body.length, bodySha256 }, pack, undefined);
    const bytes = Uint8Array.from(Buffer.concat([body, footer]));
    await target.put(packKey(pack), bytes);
    const expected = { pack, listedBytes: bytes.length, logged: undefined };
    return await checkPack(context, target, expected, { signal: undefined, onBytes: () => {} });
  };
  expect(await damageOf(body)).toBeUndefined();
  expect((await damageOf(raw))?.error.message).toMatch(/its records are not those that its footer is of/);
});
