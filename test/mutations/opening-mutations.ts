import type { Mutation } from './mutation.ts';

const opening = (name: string) => [`test/repository/open/${name}.test.ts`];

/** What keeps a repository's key, its format and its creation safe: decisions 037, 044 to 046, 104 and 105. */
export const OPENING_MUTATIONS: readonly Mutation[] = [
  {
    rule: '044',
    what: 'a plain repository opens although something to unlock it with was given',
    edits: { 'unlock-is-needed': '' },
    tests: { files: opening('open-repository'), names: 'a plain repository in place of an encrypted one' },
  },
  {
    rule: '044',
    what: 'what format says is believed without its MAC',
    edits: { 'format-is-authentic': '' },
    tests: { files: opening('open-repository'), names: 'what somebody who can write to the store' },
  },
  {
    rule: '044',
    what: 'a slot counts as whole by its checksum alone',
    edits: { 'slot-is-signed': 'return undefined;' },
    tests: { files: ['test/repository/crypto/key-slot.test.ts'], names: 'shows every byte that somebody changed' },
  },
  {
    rule: '037',
    what: 'the last whole slot is removed where another one is there and damaged',
    edits: { 'another-slot-is-whole': "return { type: 'keys', added: [], removed: [id] };" },
    tests: { files: ['test/repository/open/key-slots.test.ts'], names: 'does not count a slot' },
  },
  {
    rule: '105',
    what: 'a key slot that was removed counts as there again, because its entry came after its removal',
    edits: { 'removed-stays-removed': '' },
    tests: { files: ['test/repository/log/fold.test.ts'], names: 'key slots that were added' },
  },
  {
    rule: '104',
    what: 'a checkpoint of a few KB may stand for a state of any size',
    edits: { 'checkpoint-is-weighed': '' },
    tests: { files: ['test/repository/log/hostile-checkpoints.test.ts'], names: 'is refused' },
  },
  {
    rule: '045',
    what: 'a repository is created over the objects of another',
    edits: { 'nothing-is-created-over': 'return slots;' },
    tests: { files: opening('create-repository'), names: 'is refused where there is an object' },
  },
  {
    rule: '045',
    what: 'a repository that this host remembers is created anew where it is missing',
    edits: { 'remembered-is-not-created': 'if (remembered === undefined || remembered.seq >= 0) throw error;' },
    tests: { files: opening('log-position'), names: 'is never made anew' },
  },
  {
    rule: '046',
    what: 'every slot that a stranger put there is worked on',
    edits: { 'work-is-bounded': '' },
    tests: { files: ['test/repository/crypto/unlock-repository.test.ts'], names: 'hostile slots' },
  },
  {
    rule: '114',
    what: 'a key that was wiped seals for anybody to read',
    edits: { 'wiped-keys-seal-nothing': '' },
    tests: { files: ['test/repository/format/aead.test.ts'], names: 'wiped before the first step' },
  },
];
