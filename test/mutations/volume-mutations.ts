import { type Mutation, testsIn, without } from './mutation.ts';

const volume = testsIn('test/volume/protocol.test.ts', 'test/volume/model.test.ts', 'test/volume/write-behind.test.ts');
const argumentChecks = testsIn('test/volume/arguments.test.ts');
const room = testsIn('test/volume/room.test.ts');

/** The rules of the volume protocol. */
export const VOLUME_MUTATIONS: readonly Mutation[] = [
  ...without('R1', [
    "the newest live snapshot's epoch is stored instead of the newest ever given out",
    { 'current-epoch': 'const current = snapshots.newestEpoch;' },
    volume('a write after the only snapshot was dropped'),
  ]),
  ...without(
    'R2',
    [
      'the epoch is set when the block is claimed',
      {
        'claim-joined': (join) => `${join}\nthis.#core.epochs.blocks.set(next, next + 1, this.#core.epochs.current);`,
      },
      volume('a second writer of a claimed block'),
    ],
    [
      'the epoch is set when the write has completed',
      { 'epoch-before-call': '', 'call-settled': (leave, codeAt) => `${codeAt('epoch-before-call')}\n${leave}` },
      volume('a write that is preserving|a block that is being overwritten|not returned torn|lost, not torn'),
    ],
    [
      'the epoch is set only when the write has succeeded',
      { 'epoch-before-call': '', 'call-of-device': (call, codeAt) => `${call}\n${codeAt('epoch-before-call')}` },
      volume('a write that failed half-way'),
    ],
    [
      'nothing is tested again after waiting',
      { 'tested-again': (wait) => `${wait}\nbreak;` },
      volume('whose instant passed while it was preserving'),
    ],
    [
      'claims are not removed when the block is overwritten',
      { 'claim-ends': '' },
      volume('a claim on a block that was overwritten'),
    ],
    [
      'a buffer that was resized while the write waited is handed to the device',
      { 'length-compared-again': '' },
      argumentChecks('resized while the write waits'),
    ],
  ),
  ...without(
    'R4',
    [
      'a reader looks again only whether the block was preserved',
      {
        'looked-again':
          'const moved = blocks.filter(({ offset }) => this.#core.preimages.find(this.#blockAt(offset), this.#record.point.epoch) !== undefined);',
      },
      volume('not returned torn|lost, not torn'),
    ],
    [
      'a reader does not look again at all',
      { 'looked-again': 'const moved: typeof blocks = [];' },
      volume('a block preserved under a read'),
    ],
    [
      'a read error is final',
      { 'read-error': 'if (failed) throw outcome.reason;' },
      volume('a read error counts no more'),
    ],
    [
      "the device's extents are believed without looking again",
      { 'extents-looked-again': 'const unmoved = Boolean(true);' },
      volume('extents that the device reported'),
    ],
  ),
  ...without(
    'R5',
    ['a removed claim registers all the same', { 'removed-claim': '' }, volume("does not become the next snapshot's")],
    [
      'the room of a removed claim is given back before its I/O has come to rest',
      {
        'room-of-removed-claim':
          'const expire = () => {\nif (allocation !== undefined) this.#core.buffers.release(allocation);\nthis.#expire(claim);\n};',
      },
      volume("does not become the next snapshot's"),
    ],
    [
      'the buffer of a pre-image in transit is given back while the spill is being written from it',
      { 'transit-buffer': (wait) => wait.replace(/^await/, 'void') },
      volume('keeps its slot and its buffer'),
    ],
    [
      'the slot of a pre-image in transit is given back when it is freed',
      {
        'room-in-transit': 'if (!isFreed || pins > 0 || allocation === undefined) return;',
        'room-given': "this.#buffers.release(allocation.kind === 'transit' ? allocation.to : allocation);",
      },
      volume('counts against the limit until then'),
    ],
    [
      'the spill is read before it has been written',
      { 'spill-read-when-written': (write) => `preimage.allocation = to;\n${write}` },
      volume('read from memory'),
    ],
    [
      'a spill that fails behind is not noticed',
      { 'spill-failed': '' },
      volume('a spill that fails behind|every snapshot reads as its instant'),
    ],
    [
      'a spill that fails behind is noticed a turn later than it is read',
      { 'spill-failed': (fail) => `queueMicrotask(() => {\n${fail}\n});` },
      volume('in the step in which it fails'),
    ],
    [
      'a pre-image that was freed in transit is decided about',
      { 'freed-in-transit': '' },
      volume('concerns no later snapshot'),
    ],
    [
      'a pre-image that nobody wants by the time that it has been read is written all the same',
      { 'unwanted-not-written': 'await to.spill.write(to.slot, bytes);' },
      volume('is not written when nobody wants it'),
    ],
    [
      'the spill is written behind under every policy',
      { 'spills-behind': 'this.#spillsBehind = Boolean(true);' },
      volume('under fail-write a write waits'),
    ],
  ),
  ...without(
    'R6',
    [
      'a pre-image is kept although nobody wants it any more',
      { 'unneeded-freed': '' },
      volume('one that no snapshot wants any more'),
    ],
    [
      'whom a pre-image serves is not computed again at the overwrite',
      { 'served-again': '' },
      volume('serves a later snapshot without a second read'),
    ],
    ['a pre-image has no end', { 'interval-ends': '' }, volume('not served what was overwritten before it')],
  ),
  ...without('R7', [
    'the synchronous door leaves claims in the table',
    { 'synchronous-claim-ends': '' },
    volume('what it has preserved stays'),
  ]),
  ...without(
    'R8',
    [
      'an overwrite while storing does not preserve',
      { 'storing-is-wanted': "return state === 'pending' || state === 'preserved';" },
      volume('an overwrite while storing preserves'),
    ],
    ['late marks count', { 'late-mark': '' }, volume('late marks')],
    [
      'a handle that is being shared wants nothing before its states are found',
      { 'shared-is-live': '', 'shared-states': (run, codeAt) => `${run}\n${codeAt('shared-is-live')}` },
      testsIn('test/volume/shared-in-turns.test.ts')('while a handle is shared'),
    ],
  ),
  ...without(
    'R9',
    [
      'the drain waits for nothing',
      { drain: 'if (busy === undefined || Boolean(true)) break;' },
      volume('a write issued by then is waited for'),
    ],
    [
      'new writes are not held',
      { 'gate-holds': 'return this.#holds >= 0;' },
      volume('a write issued by then is waited for'),
    ],
    [
      'holds are not let go when the drain fails',
      { 'holds-released': (release) => `if (signal?.aborted !== true) ${release}` },
      volume('a drain that is aborted'),
    ],
    [
      'a preserving write counts as in flight',
      { 'preserving-write-is-not-in-flight': (begin) => `${begin}\ngate.enter();` },
      volume('does not lengthen the drain'),
    ],
    [
      '`atInstant` runs before the epoch moves',
      { 'instant-after-epoch': (freeze) => `${freeze}\natInstant?.();` },
      volume('the epoch has moved when'),
    ],
    [
      'a write that has been preserving is issued although an instant is being waited for',
      { 'held-write-waits': (wait) => `if (next === first) ${wait}` },
      volume('does not lengthen it'),
    ],
  ),
  ...without(
    'R10',
    [
      'pre-images keep their epochs when epochs are renumbered',
      { 'preimages-renumbered': 'const point = this.#epochs.advance(() => {});' },
      volume('R10|every snapshot reads as its instant'),
    ],
    [
      'a point that is no longer kept rounds up',
      { 'point-rounds-down': 'const epoch = this.#points.find((point) => point.serial >= serial)?.epoch;' },
      volume('a point is a serial'),
    ],
  ),
  ...without(
    'R13',
    [
      'a claim that finds no room waits for none',
      { 'room-waited-for': 'const isWorthWhile = Boolean(false);' },
      room('a block on its way to the store'),
    ],
    [
      'room is waited for although nothing can bring any',
      { 'room-waited-for': 'const isWorthWhile = Boolean(true);' },
      room('nothing that could bring room'),
    ],
    [
      'a block that was stored while its write waited for room waits on',
      { 'stored-while-waiting': '' },
      room('needs no room any more'),
    ],
    ['every claim of an outage waits for its own deadline', { 'one-wait-an-outage': '' }, room('one wait an outage')],
    [
      'a claim goes on waiting for freeing that has ended and freed nothing',
      { 'freeing-has-ended': '' },
      room('pre-images that are being freed'),
    ],
  ),
];
