import { type Mutation, testsIn, without } from './mutation.ts';

const confirming = testsIn('test/repository/log/confirm.test.ts');
const tracking = testsIn('test/repository/backup/witnessed-commits.test.ts');
const clocks = testsIn('test/repository/prune/clocks.test.ts');
const copies = testsIn('test/repository/backup/copied-process.test.ts');
const logWriter = testsIn('test/repository/log/log-writer.test.ts');
const singleWriter = testsIn('test/repository/log/single-writer.test.ts');
const retentionPolicy = testsIn('test/repository/retention/retention-policy.test.ts');

/** What keeps backups true and readable whatever becomes of stores, processes and clocks: by decision. */
export const REPOSITORY_MUTATIONS: readonly Mutation[] = [
  ...without(
    '060',
    [
      'an entry counts as a success once it was created, without a listing',
      { 'success-is-listed': "return 'written';" },
      confirming('shared mode: a disk that vanished'),
    ],
    [
      'one listing that lacks something is enough to call it gone',
      { 'gone-takes-two-listings': 'throw error;' },
      confirming('one listing that lacks the entry is no proof'),
    ],
    [
      "an occupied number is one's own if the entry there is as long",
      {
        'all-bytes-decide':
          "if (found.sizeBytes === sent.bytes.length) return { whose: 'own', tag };\n  return { whose: 'other', tag, entry: found };",
      },
      logWriter('another.s entry of the same size'),
    ],
  ),
  ...without(
    '097',
    [
      'the entry that was confirmed last may be another one of the same size',
      { 'confirmed-is-the-same-object': '' },
      confirming('an entry of the same size in place of the one before'),
    ],
    [
      'own entries below the newest one are not looked for',
      { 'own-entries-are-listed': '' },
      confirming('an own entry that was not confirmed, where its size differs'),
    ],
    [
      'an own entry that is listed with another tag is taken for the same',
      { 'own-entry-has-its-tag': 'if (own.isUncertain === true) await this.#compare(own, listed);' },
      confirming('of the same size, and with another tag than its put has returned'),
    ],
  ),
  ...without('022', [
    "a single writer's entry is sent again although the next writer has its number",
    {
      'taken-number-is-not-sent-to':
        'await pastCallersAbort(signal, sending.sent.seq, (waiting) => this.#settle(sending, waiting));',
    },
    singleWriter('not sent again'),
  ]),
  ...without(
    '083',
    [
      "a copy's pack is overwritten",
      { 'packs-are-created': 'await target.put(key, bytes, options);' },
      copies('neither overwrite a pack of the other'),
    ],
    [
      "a pack that exists is one's own, whatever it holds",
      { 'pack-is-the-same': 'if (bytes.length > 0) return;' },
      copies('nor take it for their own'),
    ],
  ),
  ...without(
    '080',
    [
      'change tracking is believed against a commit that this memory has not seen',
      { 'base-was-seen': "if (seen === undefined) return 'base-not-seen';" },
      tracking('a volume that was reverted|two running clones'),
    ],
    [
      'change tracking is believed against a base that is not the newest backup',
      { 'base-is-the-newest': '' },
      tracking('one that is not the newest'),
    ],
    [
      'change tracking is believed for an instant before the base',
      { 'base-is-earlier': '' },
      tracking('an instant that is older than the base'),
    ],
  ),
  ...without(
    '066',
    [
      'ages are measured by the clock of the host that prunes',
      { 'ages-are-the-stores': 'return new Ages(context, { signal }, undefined);' },
      clocks('a pruner whose clock is 60 days ahead fences nobody|shows a session alive by its newest pack'),
    ],
    [
      'what lies ahead is never dated anew',
      { 'what-lies-ahead-is-redated': '' },
      clocks('though every night another process prunes|was ahead once'),
    ],
  ),
  ...without(
    '065',
    [
      'retention forgets the newest backup of a volume',
      {
        'newest-is-kept': 'if (index === backups.length - 1) keptBy.length = 0;',
        'newest-whole-is-kept': '',
      },
      retentionPolicy('always keeps the newest'),
    ],
    [
      'retention forgets the newest whole backup below broken ones',
      { 'newest-whole-is-kept': '' },
      retentionPolicy('keeps the newest whole backup below broken ones'),
    ],
  ),
];
