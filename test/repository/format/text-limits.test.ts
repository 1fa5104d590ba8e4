import { describe, expect, test } from 'vitest';
import { BackupRepository } from '../../../src/repository/backup-repository.ts';
import { checkMetadata, MAX_METADATA } from '../../../src/repository/format/backup-codec.ts';
import { isTextWithin, MAX_TEXT } from '../../../src/repository/format/decode-values.ts';
import type { LogFact } from '../../../src/repository/format/log-entry.ts';
import { textWeight } from '../../../src/repository/format/state-weight.ts';
import { MemoryTarget } from '../../../src/targets/memory-target.ts';
import { withCode } from '../../support/with-code.ts';
import { backup, commit, entryAfter, hexId, open, pack, after as stateAfter } from '../log/support/facts.ts';
import { openVolume, SMALL } from '../support/repositories.ts';
import { encodeEntry } from './support/codecs-at-once.ts';

/** Texts are as long as their bytes of UTF-8, in every language that a reader is written in. */

const corrupt = withCode('LOG_CORRUPT');
/** Texts of so many bytes, of characters of one to four. */
const textsOf = (bytes: number) =>
  ['a', 'é', '€', '🐄'].map((character) => {
    const each = Buffer.byteLength(character);
    return character
      .repeat(Math.floor(bytes / each))
      .padEnd(Math.floor(bytes / each) * character.length + (bytes % each), 'x');
  });

test('a limit counts bytes, and half a character is no text', () => {
  for (const bytes of [0, 1, 341, 342, 1024, 1025]) {
    for (const text of textsOf(bytes)) {
      expect(Buffer.byteLength(text)).toBe(bytes);
      expect(isTextWithin(text, bytes), `${bytes} ${text[0]}`).toBe(true);
      expect(isTextWithin(text, bytes - 1), `${bytes} ${text[0]}`).toBe(false);
      expect(textWeight(text)).toBe(2 * bytes);
    }
  }
  expect(isTextWithin('\ud83d', 1024)).toBe(false);
});

describe('in the log:', () => {
  const facts: [name: string, fact: (text: string) => LogFact][] = [
    ['owners', (text) => open({}, { owner: text })],
    ['names of volumes', (text) => open({ [text]: undefined })],
    ['reasons of holds', (reason) => ({ type: 'hold', backups: [hexId()], reason })],
    ['tracking ids', (trackingId) => commit(1, [{ ...backup(pack(1, 'a')), trackingId }], [])],
  ];

  test.each(facts)('%s have at most 1,024 bytes', (_name, fact) => {
    const encode = (text: string) => () => encodeEntry(undefined, entryAfter(stateAfter(open()), fact(text)), []);
    for (const text of textsOf(MAX_TEXT)) expect(encode(text)).not.toThrow();
    for (const text of textsOf(MAX_TEXT + 1)) expect(encode(text)).toThrow(corrupt);
  });

  test('names and values of metadata have 65,536 bytes together', () => {
    const encode = (metadata: Record<string, string>) => () =>
      encodeEntry(undefined, entryAfter(stateAfter(open()), commit(1, [backup(pack(1, 'a'), { metadata })], [])), []);
    for (const text of textsOf(MAX_METADATA - 4)) {
      const [most, more] = [
        { é: text, x: 'y' },
        { é: text, x: 'é' },
      ];
      expect(encode(most)).not.toThrow();
      expect(encode(more)).toThrow(corrupt);
      expect(() => checkMetadata(most)).not.toThrow();
      expect(() => checkMetadata(more)).toThrow(withCode('LIMIT_EXCEEDED'));
    }
  });
});

test('what a host gives is refused at the door by the same count', async () => {
  await using repository = await BackupRepository.create(new MemoryTarget(), { encryption: 'none', ...SMALL });
  const { volume } = await openVolume(1);
  for (const text of textsOf(MAX_TEXT + 1)) {
    await expect(repository.backup(volume, { volume: text })).rejects.toThrow(/volume must be .* 1024 bytes of UTF-8/);
    await expect(repository.hold([hexId()], { reason: text })).rejects.toThrow(/reason must be .* 1024 bytes of UTF-8/);
  }
  for (const text of textsOf(MAX_TEXT)) {
    const { id } = await repository.backup(volume, { volume: text });
    await repository.hold([id], { reason: text });
    expect((await Array.fromAsync(repository.listBackups({ volume: text })))[0]?.hold?.reason).toBe(text);
  }
});
