import { describe, expect, test } from 'vitest';
import { RepositoryKeys } from '../../../src/repository/crypto/repository-keys.ts';
import { Codec, RecordKind } from '../../../src/repository/format/record.ts';
import { identityPart } from '../../../src/repository/format/record-parts.ts';
import { openRecord } from '../../../src/repository/packs/record-sealing.ts';
import { appendixA, bytes, hkdf256, hmac256, sealedRecord, sha256 } from './support/format-text.ts';

/** Records of Appendix A of `docs/FORMAT.md`: recomputed from its own text, and opened by this library. */

const vector = appendixA();
const key = vector('repository key');
const repositoryId = vector('repository id');
const nonce = vector('nonce');
const keys = RepositoryKeys.encrypted(key, repositoryId);
const block = { a: vector('block a'), b: Buffer.alloc(96, 0x61) };

describe.each([
  { name: 'a', raw: block.a, content: vector('block a'), codec: Codec.raw, sealed: 'sealed a, raw, encrypted' },
  {
    name: 'b',
    raw: block.b,
    content: vector('zstd frame of b'),
    codec: Codec.zstd,
    sealed: 'sealed b, zstd, encrypted',
  },
])('block $name', ({ name, raw, content, codec, sealed }) => {
  const id = hmac256(hkdf256(key, repositoryId, 'cow1 content id'), raw);
  const record = { kind: RecordKind.block, codec, rawLength: raw.length };

  test('has these content ids', () => {
    expect(sha256(raw)).toEqual(vector(`content id of ${name}, plain`));
    expect(Buffer.from(RepositoryKeys.plain().contentId(raw))).toEqual(vector(`content id of ${name}, plain`));
    expect(id).toEqual(vector(`content id of ${name}, encrypted`));
    expect(Buffer.from(keys.contentId(raw))).toEqual(vector(`content id of ${name}, encrypted`));
  });

  test('is sealed like this in an encrypted repository', () => {
    expect(sealedRecord(key, repositoryId, { ...record, id, nonce, content })).toEqual(vector(sealed));
    expect(Buffer.from(openRecord(keys, 128, { ...record, id }, vector(sealed)))).toEqual(raw);
  });

  test('is stored like this in a plain one', () => {
    expect(Buffer.from(openRecord(RepositoryKeys.plain(), 128, { ...record, id: sha256(raw) }, content))).toEqual(raw);
  });
});

test('a leaf has these record ids, whatever its location part', () => {
  const part = bytes(0b00100001, vector('content id of a, encrypted'), vector('content id of b, encrypted'));
  expect(part).toEqual(vector('identity part'));
  expect(sha256(bytes('cow1 record id', 2, part))).toEqual(vector('record id, plain'));
  expect(hmac256(hkdf256(key, repositoryId, 'cow1 record id'), bytes(2, part))).toEqual(vector('record id, encrypted'));
  const raw = bytes(part, 'locations');
  const ofLibrary = [keys, RepositoryKeys.plain()].map((of) =>
    Buffer.from(of.recordId(RecordKind.leaf, identityPart(RecordKind.leaf, raw, 8))),
  );
  expect(ofLibrary).toEqual([vector('record id, encrypted'), vector('record id, plain')]);
});
