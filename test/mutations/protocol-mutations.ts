import type { Mutation } from './mutation.ts';

const decisions = (names: string) => ({ files: ['test/repository/log/sessions.test.ts'], names });
const opening = (names: string) => ({ files: ['test/repository/log/open-log.test.ts'], names });
const single = (names: string) => ({ files: ['test/repository/log/single-writer.test.ts'], names });

/** The rules of the repository protocol. What was found since they were written is in `repository-mutations.ts`. */
export const PROTOCOL_MUTATIONS: readonly Mutation[] = [
  {
    rule: 'Names',
    what: "a pack's name depends on random bytes alone",
    edits: { 'pack-names-are-hedged': 'const random = hedgedHex(16, this.#options.footerKey, session);' },
    tests: {
      files: ['test/repository/backup/copied-process.test.ts'],
      names: 'packs that begin with different contents have different names',
    },
  },
  {
    rule: 'P1',
    what: 'a collector condemns the packs of open sessions as orphans',
    edits: { 'open-sessions-are-spared': 'return new Set<number>();' },
    tests: decisions('P1: a pack uploaded'),
  },
  {
    rule: 'P2',
    what: 'a session opens on a volume that is in another open session',
    edits: { 'one-open-session': 'if (!takeOver.includes(session.seq)) continue;' },
    tests: decisions('one open session a volume'),
  },
  {
    rule: 'P2',
    what: 'a backup is committed on a parent that is not the head any more',
    edits: { 'parent-is-the-head': '' },
    tests: decisions('P2: two children of one parent'),
  },
  {
    rule: 'P3',
    what: 'a forgotten backup is pinned as a base',
    edits: { 'base-is-live': '' },
    tests: decisions('a base is live'),
  },
  {
    rule: 'P3',
    what: 'a collector does not mark the bases of open sessions',
    edits: { 'pinned-bases-are-marked': 'return [...state.backups.values()];' },
    tests: decisions('P3: forget the base'),
  },
  {
    rule: 'P4',
    what: 'a pack that is not condemned counts as known',
    edits: { 'pack-is-known': 'if (condemnationOf(state, pack) === undefined) continue;' },
    tests: decisions('packs deleted long ago'),
  },
  {
    rule: 'P4',
    what: 'a writer that lost a number sends what it had decided before',
    edits: {
      'decided-again': `const once = decide as Decide & { made?: ReturnType<Decide> };
        const decision = await (once.made ??= decide(reader.state));`,
    },
    tests: decisions('retrying without deciding again, by a writer'),
  },
  {
    rule: 'P6',
    what: 'a fenced session commits',
    edits: {
      'committing-session-is-open':
        'const session = state.sessions.get(plan.session) ?? state.fenced.get(plan.session);',
    },
    tests: decisions('P6: a fence is for ever'),
  },
  {
    rule: 'P6',
    what: 'a session is adopted that the log lists no more',
    edits: { 'adopted-is-listed': 'const adoptable = [...adopt];' },
    tests: decisions('remembers a session condemned long ago adopts nothing'),
  },
  {
    rule: 'P7',
    what: 'a collector that lost a number condemns by its old marks',
    edits: { 'marked-again': '' },
    tests: decisions('retrying without deciding again, by a collector'),
  },
  {
    rule: 'P9',
    what: 'a location that was moved counts as known wherever it is now',
    edits: { 'moved-location-is-known': 'return true;' },
    tests: decisions('a place that was left behind'),
  },
  {
    rule: 'P9',
    what: 'a fenced repacker condemns what it has moved',
    edits: { 'repacking-session-is-open': '' },
    tests: decisions("a fenced repacker's collection"),
  },
  {
    rule: 'P9',
    what: 'a pack is moved again without a table that leads straight to its newest location',
    edits: { 'tables-lead-straight': '' },
    tests: decisions('two looks'),
  },
  {
    rule: 'P10',
    what: 'deduplication refers to packs that no entry has listed',
    edits: { 'dedup-knows-the-pack': 'return !state.quarantined.has(packKey(pack));' },
    tests: decisions('nothing that only a listing showed'),
  },
  {
    rule: 'P11',
    what: 'a checkpoint is believed that does not continue the chain',
    edits: { 'checkpoint-continues-the-chain': '' },
    tests: opening('of another history is not believed|that has the hash of another is not believed'),
  },
  {
    rule: 'P11',
    what: 'a host believes another history than the one that it remembers',
    edits: { 'remembered-is-in-the-log': '' },
    tests: opening('another history is REPOSITORY_ROLLED_BACK'),
  },
  {
    rule: 'P12',
    what: 'only the first backup of a group is checked',
    edits: { 'group-is-checked-whole': (loop) => loop.replace('plan.backups', 'plan.backups.slice(0, 1)') },
    tests: decisions('P12: a group commits whole'),
  },
  {
    rule: 'P13',
    what: 'keys of entries do not end in the hash',
    edits: { 'keys-end-in-the-hash': 'return LOG_PREFIX + inverted(seq);' },
    tests: single('keys end in the hash'),
  },
  {
    rule: 'P13',
    what: 'a single writer reports success without looking at its number',
    edits: { 'single-writer-looks': '' },
    tests: single('at most one writer is told of a success'),
  },
];
