import type { Mutation } from './mutation.ts';

const files = ['protocol', 'model', 'write-behind'].map((name) => `test/volume/${name}.test.ts`);

/** The rules of the volume protocol. */
export const VOLUME_MUTATIONS: readonly Mutation[] = [
  {
    rule: 'R1',
    what: "the newest live snapshot's epoch is stored instead of the newest ever given out",
    edits: { 'current-epoch': 'const current = snapshots.newestEpoch;' },
    tests: { files, names: 'a write after the only snapshot was dropped' },
  },
  {
    rule: 'R2',
    what: 'the epoch is set when the block is claimed',
    edits: {
      'claim-joined': (join) => `${join}\nthis.#core.epochs.blocks.set(next, next + 1, this.#core.epochs.current);`,
    },
    tests: { files, names: 'a second writer of a claimed block' },
  },
  {
    rule: 'R2',
    what: 'the epoch is set when the write has completed',
    edits: { 'epoch-before-call': '', 'call-settled': (leave, codeAt) => `${codeAt('epoch-before-call')}\n${leave}` },
    tests: {
      files,
      names: 'a write that is preserving|a block that is being overwritten|not returned torn|lost, not torn',
    },
  },
  {
    rule: 'R2',
    what: 'the epoch is set only when the write has succeeded',
    edits: { 'epoch-before-call': '', 'call-of-device': (call, codeAt) => `${call}\n${codeAt('epoch-before-call')}` },
    tests: { files, names: 'a write that failed half-way' },
  },
  {
    rule: 'R2',
    what: 'nothing is tested again after waiting',
    edits: { 'tested-again': (wait) => `${wait}\nbreak;` },
    tests: { files, names: 'whose instant passed while it was preserving' },
  },
  {
    rule: 'R2',
    what: 'claims are not removed when the block is overwritten',
    edits: { 'claim-ends': '' },
    tests: { files, names: 'a claim on a block that was overwritten' },
  },
  {
    rule: 'R2',
    what: 'a buffer that was resized while the write waited is handed to the device',
    edits: { 'length-compared-again': '' },
    tests: { files: ['test/volume/arguments.test.ts'], names: 'resized while the write waits' },
  },
  {
    rule: 'R4',
    what: 'a reader looks again only whether the block was preserved',
    edits: {
      'looked-again':
        'const moved = blocks.filter(({ offset }) => this.#core.preimages.find(this.#blockAt(offset), this.#record.point.epoch) !== undefined);',
    },
    tests: { files, names: 'not returned torn|lost, not torn' },
  },
  {
    rule: 'R4',
    what: 'a reader does not look again at all',
    edits: { 'looked-again': 'const moved: typeof blocks = [];' },
    tests: { files, names: 'a block preserved under a read' },
  },
  {
    rule: 'R4',
    what: 'a read error is final',
    edits: { 'read-error': 'if (failed) throw outcome.reason;' },
    tests: { files, names: 'a read error counts no more' },
  },
  {
    rule: 'R4',
    what: "the device's extents are believed without looking again",
    edits: { 'extents-looked-again': 'const unmoved = Boolean(true);' },
    tests: { files, names: 'extents that the device reported' },
  },
  {
    rule: 'R5',
    what: 'a removed claim registers all the same',
    edits: { 'removed-claim': '' },
    tests: { files, names: "does not become the next snapshot's" },
  },
  {
    rule: 'R5',
    what: 'the room of a removed claim is given back before its I/O has come to rest',
    edits: {
      'room-of-removed-claim':
        'const expire = () => {\nif (allocation !== undefined) this.#core.buffers.release(allocation);\nthis.#expire(claim);\n};',
    },
    tests: { files, names: "does not become the next snapshot's" },
  },
  {
    rule: 'R5',
    what: 'the buffer of a pre-image in transit is given back while the spill is being written from it',
    edits: { 'transit-buffer': (wait) => wait.replace(/^await/, 'void') },
    tests: { files, names: 'keeps its slot and its buffer' },
  },
  {
    rule: 'R5',
    what: 'the slot of a pre-image in transit is given back when it is freed',
    edits: {
      'room-in-transit': 'if (!isFreed || pins > 0 || allocation === undefined) return;',
      'room-given': "this.#buffers.release(allocation.kind === 'transit' ? allocation.to : allocation);",
    },
    tests: { files, names: 'counts against the limit until then' },
  },
  {
    rule: 'R5',
    what: 'the spill is read before it has been written',
    edits: { 'spill-read-when-written': (write) => `preimage.allocation = to;\n${write}` },
    tests: { files, names: 'read from memory' },
  },
  {
    rule: 'R5',
    what: 'a spill that fails behind is not noticed',
    edits: { 'spill-failed': '' },
    tests: { files, names: 'a spill that fails behind|every snapshot reads as its instant' },
  },
  {
    rule: 'R5',
    what: 'a spill that fails behind is noticed a turn later than it is read',
    edits: { 'spill-failed': (fail) => `queueMicrotask(() => {\n${fail}\n});` },
    tests: { files, names: 'in the step in which it fails' },
  },
  {
    rule: 'R5',
    what: 'a pre-image that was freed in transit is decided about',
    edits: { 'freed-in-transit': '' },
    tests: { files, names: 'concerns no later snapshot' },
  },
  {
    rule: 'R5',
    what: 'a pre-image that nobody wants by the time that it has been read is written all the same',
    edits: { 'unwanted-not-written': 'await to.spill.write(to.slot, bytes);' },
    tests: { files, names: 'is not written when nobody wants it' },
  },
  {
    rule: 'R5',
    what: 'the spill is written behind under every policy',
    edits: { 'spills-behind': 'this.#spillsBehind = Boolean(true);' },
    tests: { files, names: 'under fail-write a write waits' },
  },
  {
    rule: 'R6',
    what: 'a pre-image is kept although nobody wants it any more',
    edits: { 'unneeded-freed': '' },
    tests: { files, names: 'one that no snapshot wants any more' },
  },
  {
    rule: 'R6',
    what: 'whom a pre-image serves is not computed again at the overwrite',
    edits: { 'served-again': '' },
    tests: { files, names: 'serves a later snapshot without a second read' },
  },
  {
    rule: 'R6',
    what: 'a pre-image has no end',
    edits: { 'interval-ends': '' },
    tests: { files, names: 'not served what was overwritten before it' },
  },
  {
    rule: 'R7',
    what: 'the synchronous door leaves claims in the table',
    edits: { 'synchronous-claim-ends': '' },
    tests: { files, names: 'what it has preserved stays' },
  },
  {
    rule: 'R8',
    what: 'an overwrite while storing does not preserve',
    edits: { 'storing-is-wanted': "return state === 'pending' || state === 'preserved';" },
    tests: { files, names: 'an overwrite while storing preserves' },
  },
  {
    rule: 'R8',
    what: 'late marks count',
    edits: { 'late-mark': '' },
    tests: { files, names: 'late marks' },
  },
  {
    rule: 'R9',
    what: 'the drain waits for nothing',
    edits: { drain: 'if (busy === undefined || Boolean(true)) break;' },
    tests: { files, names: 'a write issued by then is waited for' },
  },
  {
    rule: 'R9',
    what: 'new writes are not held',
    edits: { 'gate-holds': 'return this.#holds >= 0;' },
    tests: { files, names: 'a write issued by then is waited for' },
  },
  {
    rule: 'R9',
    what: 'holds are not let go when the drain fails',
    edits: { 'holds-released': (release) => `if (signal?.aborted !== true) ${release}` },
    tests: { files, names: 'a drain that is aborted' },
  },
  {
    rule: 'R9',
    what: 'a preserving write counts as in flight',
    edits: { 'preserving-write-is-not-in-flight': (begin) => `${begin}\ngate.enter();` },
    tests: { files, names: 'does not lengthen the drain' },
  },
  {
    rule: 'R9',
    what: '`atInstant` runs before the epoch moves',
    edits: { 'instant-after-epoch': (freeze) => `${freeze}\natInstant?.();` },
    tests: { files, names: 'the epoch has moved when' },
  },
  {
    rule: 'R9',
    what: 'a write that has been preserving is issued although an instant is being waited for',
    edits: { 'held-write-waits': (wait) => `if (next === first) ${wait}` },
    tests: { files, names: 'does not lengthen it' },
  },
  {
    rule: 'R10',
    what: 'pre-images keep their epochs when epochs are renumbered',
    edits: { 'preimages-renumbered': 'const point = this.#epochs.advance(() => {});' },
    tests: { files, names: 'R10|every snapshot reads as its instant' },
  },
  {
    rule: 'R10',
    what: 'a point that is no longer kept rounds up',
    edits: { 'point-rounds-down': 'const epoch = this.#points.find((point) => point.serial >= serial)?.epoch;' },
    tests: { files, names: 'a point is a serial' },
  },
  {
    rule: 'R13',
    what: 'a claim that finds no room waits for none',
    edits: { 'room-waited-for': 'const isWorthWhile = Boolean(false);' },
    tests: { files: ['test/volume/room.test.ts'], names: 'a block on its way to the store' },
  },
  {
    rule: 'R13',
    what: 'room is waited for although nothing can bring any',
    edits: { 'room-waited-for': 'const isWorthWhile = Boolean(true);' },
    tests: { files: ['test/volume/room.test.ts'], names: 'nothing that could bring room' },
  },
  {
    rule: 'R13',
    what: 'a block that was stored while its write waited for room waits on',
    edits: { 'stored-while-waiting': '' },
    tests: { files: ['test/volume/room.test.ts'], names: 'needs no room any more' },
  },
  {
    rule: 'R13',
    what: 'every claim of an outage waits for its own deadline',
    edits: { 'one-wait-an-outage': '' },
    tests: { files: ['test/volume/room.test.ts'], names: 'one wait an outage' },
  },
];
