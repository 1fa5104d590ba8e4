/** Randomised tests that run for long. `npm test` runs the same files, with a fixed seed and little of each. */
export interface Soak {
  /** `npm run soak:NAME`. */
  readonly name: string;
  readonly what: string;
  readonly files: readonly string[];
  /** How many times as much as `npm test` does: the soak itself, and its short form in `.ci/run`. */
  readonly times: { readonly full: number; readonly short: number };
  /** Whether the full soak goes through all places that `npm test` takes samples of. */
  readonly sweepsAll?: boolean;
}

export const SOAKS: readonly Soak[] = [
  {
    name: 'volume',
    what: '10,000 histories of a volume against the trivially correct model',
    files: ['test/volume/model.test.ts'],
    times: { full: 23, short: 3 },
  },
  {
    name: 'pipeline',
    what: '3,000 histories of a host with a format of its own, whose store fails and hangs, against copies of the instants',
    files: ['test/pipeline/model.test.ts'],
    times: { full: 50, short: 4 },
  },
  {
    name: 'histories',
    what: '2,000 histories of a repository, and 1,000 of the block map, against trivially correct models',
    files: ['test/repository/histories/model.test.ts', 'test/repository/map/history.test.ts'],
    times: { full: 50, short: 4 },
  },
  {
    name: 'races',
    what: 'hundreds of races of hosts that back up, forget, prune, repack and manage keys at the same time',
    files: [
      'test/repository/histories/races.test.ts',
      'test/repository/prune/histories.test.ts',
      'test/repository/log/concurrency.test.ts',
      'test/repository/open/key-slots.test.ts',
    ],
    times: { full: 200, short: 12 },
  },
  {
    name: 'copies',
    what: '100 histories of a repository that tools copy while it is written to, object by object and in any order',
    files: ['test/repository/histories/copies.test.ts'],
    times: { full: 50, short: 3 },
  },
  {
    name: 'faults',
    what: 'each request of a history fails in each way, and each byte of a repository is damaged',
    files: [
      'test/repository/histories/fault-sweep.test.ts',
      'test/repository/flips.test.ts',
      'test/repository/prune/prune.test.ts',
      'test/repository/verify/verify.test.ts',
    ],
    times: { full: 1, short: 1 },
    sweepsAll: true,
  },
  {
    name: 'fuzz',
    what: 'damaged and random bytes for every decoder, and random arguments for everything that is a property',
    files: [
      'test/common',
      'test/state',
      'test/device/span.test.ts',
      'test/device/byte-device.test.ts',
      'test/repository/format/decoders.test.ts',
      'test/repository/format/format-object.test.ts',
      'test/repository/crypto/key-slot.test.ts',
      'test/repository/format/codecs.test.ts',
      'test/repository/map/corruption.test.ts',
      'test/repository/packs/packs.test.ts',
      'test/repository/packs/record-sealing.test.ts',
      'test/repository/restore',
      'test/repository/retention/retention-policy.test.ts',
    ],
    times: { full: 30, short: 2 },
  },
  {
    name: 'kills',
    what: '500 kills of processes that back up a live volume into a folder, forget and prune',
    files: ['test/soaks/kills.test.ts'],
    times: { full: 250, short: 12 },
  },
  {
    name: 'state',
    what: '2,000 histories of a volume with a state directory under kills, losses of power, reverted disks and failing calls, and 300 killed processes',
    files: ['test/volume/state-directory'],
    times: { full: 100, short: 5 },
  },
  {
    name: 'clocks',
    what: '300 histories of hosts whose clocks jump by seconds to decades, both ways, on stores with a clock and without',
    files: ['test/soaks/clocks.test.ts'],
    times: { full: 150, short: 12 },
  },
  {
    name: 'full-disk',
    what: '200 histories on disks that fill up, a quota and (as root on Linux) a mounted filesystem, and are freed again',
    files: ['test/soaks/full-disk.test.ts'],
    times: { full: 100, short: 8 },
  },
  {
    name: 'misuse',
    what: 'every export, method and option of the API reports with wrong arguments, one at a time and several at once',
    files: ['test/soaks/misuse.test.ts'],
    times: { full: 150, short: 15 },
  },
  {
    name: 'model',
    what: 'every interleaving of the repository protocol, in the larger casts too, with all rules in force',
    files: ['test/model/repository-protocol.test.ts'],
    times: { full: 1, short: 1 },
    sweepsAll: true,
  },
  {
    name: 'hostile',
    what: '1,000 attacks by somebody who may write to the store: hostile objects of every kind, and what is done about them',
    files: ['test/soaks/hostile.test.ts', 'test/repository/hostile'],
    times: { full: 126, short: 4 },
  },
  {
    name: 'reader',
    what: '1,000 flipped bits of each kind of object, for a reader in Python that knows docs/FORMAT.md alone',
    files: ['test/reader/python-reader.test.ts'],
    times: { full: 25, short: 2 },
  },
];
