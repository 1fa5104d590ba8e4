import type { Mutation } from './mutation.ts';

const confirming = (names: string) => ({ files: ['test/repository/log/confirm.test.ts'], names });
const tracking = (names: string) => ({ files: ['test/repository/backup/witnessed-commits.test.ts'], names });
const clocks = (names: string) => ({ files: ['test/repository/prune/clocks.test.ts'], names });
const copies = (names: string) => ({ files: ['test/repository/backup/copied-process.test.ts'], names });

/** What keeps backups true and readable whatever becomes of stores, processes and clocks: by decision. */
export const REPOSITORY_MUTATIONS: readonly Mutation[] = [
  {
    rule: '060',
    what: 'an entry counts as a success once it was created, without a listing',
    edits: { 'success-is-listed': '' },
    tests: confirming('shared mode: a disk that vanished'),
  },
  {
    rule: '060',
    what: 'one listing that lacks something is enough to call it gone',
    edits: { 'gone-takes-two-listings': 'await this.#lookOnce(options);' },
    tests: confirming('one listing that lacks the entry is no proof'),
  },
  {
    rule: '060',
    what: "an occupied number is one's own if the entry there is as long",
    edits: { 'all-bytes-decide': "return found.sizeBytes === sent.bytes.length ? 'own' : found;" },
    tests: { files: ['test/repository/log/log-writer.test.ts'], names: 'another.s entry of the same size' },
  },
  {
    rule: '097',
    what: 'the entry that was confirmed last may be another one of the same size',
    edits: { 'confirmed-is-the-same-object': '' },
    tests: confirming('an entry of the same size in place of the one before'),
  },
  {
    rule: '097',
    what: 'own entries below the newest one are not looked for',
    edits: { 'own-entries-are-listed': '' },
    tests: confirming('an own entry that was not confirmed'),
  },
  {
    rule: '022',
    what: "a single writer's entry is sent again although the next writer has its number",
    edits: { 'taken-number-is-not-sent-to': 'await this.#settle(sending, signal);' },
    tests: { files: ['test/repository/log/single-writer.test.ts'], names: 'not sent again' },
  },
  {
    rule: '083',
    what: "a copy's pack is overwritten",
    edits: { 'packs-are-created': 'await target.put(key, bytes, options);' },
    tests: copies('neither overwrite a pack of the other'),
  },
  {
    rule: '083',
    what: "a pack that exists is one's own, whatever it holds",
    edits: { 'pack-is-the-same': 'if (bytes.length > 0) return;' },
    tests: copies('nor take it for their own'),
  },
  {
    rule: '080',
    what: 'change tracking is believed against a commit that this memory has not seen',
    edits: { 'base-was-seen': "if (seen === undefined) return 'base-not-seen';" },
    tests: tracking('a volume that was reverted|two running clones'),
  },
  {
    rule: '080',
    what: 'change tracking is believed against a base that is not the newest backup',
    edits: { 'base-is-the-newest': '' },
    tests: tracking('one that is not the newest'),
  },
  {
    rule: '080',
    what: 'change tracking is believed for an instant before the base',
    edits: { 'base-is-earlier': '' },
    tests: tracking('an instant that is older than the base'),
  },
  {
    rule: '066',
    what: 'ages are measured by the clock of the host that prunes',
    edits: { 'ages-are-the-stores': 'return new Ages(context, { signal }, undefined);' },
    tests: clocks('a pruner whose clock is 60 days ahead fences nobody|shows a session alive by its newest pack'),
  },
  {
    rule: '066',
    what: 'what lies ahead is never dated anew',
    edits: { 'what-lies-ahead-is-redated': '' },
    tests: clocks('though every night another process prunes|was ahead once'),
  },
  {
    rule: '065',
    what: 'retention forgets the newest backup of a volume',
    edits: {
      'newest-is-kept': 'if (index === backups.length - 1) keptBy.length = 0;',
      'newest-whole-is-kept': '',
    },
    tests: { files: ['test/repository/retention/retention-policy.test.ts'], names: 'always keeps the newest' },
  },
  {
    rule: '065',
    what: 'retention forgets the newest whole backup below broken ones',
    edits: { 'newest-whole-is-kept': '' },
    tests: {
      files: ['test/repository/retention/retention-policy.test.ts'],
      names: 'keeps the newest whole backup below broken ones',
    },
  },
];
