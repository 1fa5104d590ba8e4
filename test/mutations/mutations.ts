/** A rule of the volume protocol, taken out of the source, and the test that must then fail. */
export interface Mutation {
  readonly rule: string;
  readonly what: string;
  readonly file: string;
  /** Must occur exactly once. */
  readonly find: string;
  readonly replace: string;
  /** A part of the full names of the tests that must fail. */
  readonly test: string;
}

const INTERCEPTOR = 'src/volume/write-interceptor.ts';
const LIVE = 'src/volume/live-snapshots.ts';
const READER = 'src/volume/snapshot-reader.ts';
const CLAIMS = 'src/volume/claims.ts';
const PREIMAGES = 'src/volume/preimages.ts';
const EPOCHS = 'src/volume/epoch-map.ts';
const INSTANT = 'src/volume/instant.ts';

export const MUTATIONS: readonly Mutation[] = [
  {
    rule: 'R1',
    what: "the newest live snapshot's epoch is stored instead of the newest ever given out",
    file: INTERCEPTOR,
    find: '    const { bytes, current } = epochs;\n',
    replace: '    const { bytes } = epochs;\n    const current = snapshots.newestEpoch;\n',
    test: 'a write after the only snapshot was dropped',
  },
  {
    rule: 'R2',
    what: 'the epoch is set when the block is claimed',
    file: INTERCEPTOR,
    find: 'if (snapshots.needsPreimage(next)) claims.push(this.claims.join(next));',
    replace:
      'if (snapshots.needsPreimage(next)) {\n          claims.push(this.claims.join(next));\n          this.#core.epochs.bytes[next] = this.#core.epochs.current;\n        }',
    test: 'a second writer of a claimed block',
  },
  {
    rule: 'R2',
    what: 'the epoch is set when the write has completed',
    file: INTERCEPTOR,
    find: '    this.#overwrite(first, last);\n    gate.enter();\n    try {\n      await call();\n    } finally {\n      gate.leave();\n    }',
    replace:
      '    gate.enter();\n    try {\n      await call();\n    } finally {\n      this.#overwrite(first, last);\n      gate.leave();\n    }',
    test: 'a write that is preserving|a block that is being overwritten|not returned torn|lost, not torn',
  },
  {
    rule: 'R2',
    what: 'the epoch is set only when the write has succeeded',
    file: INTERCEPTOR,
    find: '    this.#overwrite(first, last);\n    gate.enter();\n    try {\n      await call();\n    } finally {\n      gate.leave();\n    }',
    replace:
      '    gate.enter();\n    try {\n      await call();\n      this.#overwrite(first, last);\n    } finally {\n      gate.leave();\n    }',
    test: 'a write that failed half-way',
  },
  {
    rule: 'R2',
    what: 'nothing is tested again after waiting',
    file: INTERCEPTOR,
    find: '        await abortable<unknown>(preserved, options?.signal);\n',
    replace: '        await abortable<unknown>(preserved, options?.signal);\n        break;\n',
    test: 'whose instant passed while it was preserving',
  },
  {
    rule: 'R2',
    what: 'claims are not removed when the block is overwritten',
    file: INTERCEPTOR,
    find: '      this.claims.remove(block);\n      snapshots.overwritten',
    replace: '      snapshots.overwritten',
    test: 'a claim on a block that was overwritten',
  },
  {
    rule: 'R4',
    what: 'a reader looks again only whether the block was preserved',
    file: READER,
    find: "  const moved = blocks.filter(({ block }) => placeOf(core, record, block) !== 'device');",
    replace:
      '  const moved = blocks.filter(({ block }) => core.preimages.find(block, record.point.epoch) !== undefined);',
    test: 'not returned torn|lost, not torn',
  },
  {
    rule: 'R4',
    what: 'a reader does not look again at all',
    file: READER,
    find: "  const moved = blocks.filter(({ block }) => placeOf(core, record, block) !== 'device');",
    replace: '  const moved: typeof blocks = [];',
    test: 'a block preserved under a read',
  },
  {
    rule: 'R4',
    what: 'a read error is final',
    file: READER,
    find: '  if (failed && moved.length === 0) throw outcome.reason;',
    replace: '  if (failed) throw outcome.reason;',
    test: 'a read error counts no more',
  },
  {
    rule: 'R4',
    what: "the device's extents are believed without looking again",
    file: READER,
    find: '        if (!unmoved) yield',
    replace: '        if (unmoved && !unmoved) yield',
    test: 'extents that the device told',
  },
  {
    rule: 'R5',
    what: 'a removed claim registers all the same',
    file: CLAIMS,
    find: '      if (!this.#isCurrent(claim)) return;\n      this.#owner.register',
    replace: '      this.#owner.register',
    test: "does not become the next snapshot's",
  },
  {
    rule: 'R5',
    what: 'the room of a removed claim is given back before its I/O has come to rest',
    file: CLAIMS,
    find: '    const expire = () => setImmediate(() => this.#expire(claim, deadlineMs));\n',
    replace:
      '    const expire = () => {\n      this.#owner.space.give(room);\n      this.#expire(claim, deadlineMs);\n    };\n',
    test: "does not become the next snapshot's",
  },
  {
    rule: 'R5',
    what: 'the buffer of a pre-image in transit is given back while the spill is being written from it',
    file: CLAIMS,
    find: '    await this.#owner.takeToSlot(preimage, room);',
    replace: '    void this.#owner.takeToSlot(preimage, room);',
    test: 'keeps its slot and its buffer',
  },
  {
    rule: 'R5',
    what: 'the slot of a pre-image in transit is given back when it is freed',
    file: PREIMAGES,
    find: "    if (!preimage.isFreed || preimage.pins > 0 || room === undefined || room.kind === 'transit') return;\n    this.#space.give(room);",
    replace:
      "    if (!preimage.isFreed || preimage.pins > 0 || room === undefined) return;\n    this.#space.give(room.kind === 'transit' ? { kind: 'spill', slot: room.slot } : room);",
    test: 'counts against the limit until then',
  },
  {
    rule: 'R5',
    what: 'the spill is read before it has been written',
    file: PREIMAGES,
    find: '    try {\n      if (!preimage.isFreed) await',
    replace: "    preimage.room = { kind: 'spill', slot };\n    try {\n      if (!preimage.isFreed) await",
    test: 'read from memory',
  },
  {
    rule: 'R5',
    what: 'a spill that fails behind is not noticed',
    file: PREIMAGES,
    find: '      failed(cause);\n',
    replace: '      void failed;\n      void cause;\n',
    test: 'a spill that fails behind|every snapshot reads as its instant',
  },
  {
    rule: 'R5',
    what: 'a spill that fails behind is noticed a turn later than it is read',
    file: PREIMAGES,
    find: '      failed(cause);\n',
    replace: '      queueMicrotask(() => failed(cause));\n',
    test: 'in the step in which it fails',
  },
  {
    rule: 'R5',
    what: 'a pre-image that was freed in transit is decided about',
    file: LIVE,
    find: '    if (preimage.isFreed) return;\n    const { block } = preimage;\n',
    replace: '    const { block } = preimage;\n',
    test: 'concerns no later snapshot',
  },
  {
    rule: 'R5',
    what: 'a pre-image that nobody wants by the time that it has been read is written all the same',
    file: PREIMAGES,
    find: '      if (!preimage.isFreed) await',
    replace: '      await',
    test: 'is not written when nobody wants it',
  },
  {
    rule: 'R5',
    what: 'the spill is written behind under every policy',
    file: INTERCEPTOR,
    find: "spillsBehind: core.onFailure !== 'fail-write'",
    replace: 'spillsBehind: true',
    test: 'under fail-write a write waits',
  },
  {
    rule: 'R6',
    what: 'a pre-image is kept although nobody wants it any more',
    file: LIVE,
    find: '    if (!this.#isNeeded(preimage)) this.#preimages.free(preimage);\n  }\n\n  #isNeeded',
    replace: '  }\n\n  #isNeeded',
    test: 'one that no snapshot wants any more',
  },
  {
    rule: 'R6',
    what: 'whom a pre-image serves is not computed again at the overwrite',
    file: LIVE,
    find: '    open.to = epoch;\n    this.#serve(open);',
    replace: '    open.to = epoch;',
    test: 'serves a later snapshot without a second read',
  },
  {
    rule: 'R6',
    what: 'a pre-image has no end',
    file: LIVE,
    find: '    open.to = epoch;\n',
    replace: '',
    test: 'not served what was overwritten before it',
  },
  {
    rule: 'R7',
    what: 'the synchronous door leaves claims in the table',
    file: INTERCEPTOR,
    find: '    if (isZero) space.give(room);\n    this.claims.remove(block);\n',
    replace: '    if (isZero) space.give(room);\n',
    test: 'what it has preserved stays',
  },
  {
    rule: 'R8',
    what: 'an overwrite while storing does not preserve',
    file: 'src/volume/snapshot-record.ts',
    find: " || (state === 'storing' && !this.givenUp.has(block))",
    replace: '',
    test: 'an overwrite while storing preserves',
  },
  {
    rule: 'R8',
    what: 'late marks count',
    file: LIVE,
    find: "    if (record.status !== 'live') return;\n    if (to === 'failed')",
    replace: "    if (to === 'failed')",
    test: 'late marks',
  },
  {
    rule: 'R9',
    what: 'the drain waits for nothing',
    file: INSTANT,
    find: '      if (busy === undefined) break;',
    replace: '      if (busy === undefined || busy !== undefined) break;',
    test: 'a write issued by then is waited for',
  },
  {
    rule: 'R9',
    what: 'new writes are not held',
    file: 'src/volume/write-gate.ts',
    find: '    return this.#holds === 0;',
    replace: '    return this.#holds >= 0;',
    test: 'a write issued by then is waited for',
  },
  {
    rule: 'R9',
    what: 'holds are not let go when the drain fails',
    file: INSTANT,
    find: '  } finally {\n    for (const release of releases) release();\n  }',
    replace: '  } finally {\n    if (signal?.aborted !== true) for (const release of releases) release();\n  }',
    test: 'a drain that is aborted',
  },
  {
    rule: 'R9',
    what: 'a preserving write counts as in flight',
    file: INTERCEPTOR,
    find: '    let next = first;\n    for (;;) {\n',
    replace: '    let next = first;\n    gate.enter();\n    for (;;) {\n',
    test: 'does not lengthen the drain',
  },
  {
    rule: 'R9',
    what: '`atInstant` runs before the epoch moves',
    file: INSTANT,
    find: '  const frozenAt = new Date();\n',
    replace: '  const frozenAt = new Date();\n  atInstant?.();\n',
    test: 'the epoch has moved when',
  },
  {
    rule: 'R10',
    what: 'pre-images keep their epochs when epochs are renumbered',
    file: LIVE,
    find: '(newEpoch) => this.#preimages.renumber(newEpoch)',
    replace: '() => {}',
    test: 'R10|every snapshot reads as its instant',
  },
  {
    rule: 'R9',
    what: 'a write that has been preserving is issued although an instant is being waited for',
    file: INTERCEPTOR,
    find: '      if (!gate.isOpen) await gate.pass(options?.signal);\n',
    replace: '      if (!gate.isOpen && next === first) await gate.pass(options?.signal);\n',
    test: 'does not lengthen it',
  },
  {
    rule: 'R10',
    what: 'a point that is no longer kept rounds up',
    file: EPOCHS,
    find: '    const epoch = this.#points.findLast((point) => point.serial <= serial)?.epoch;',
    replace: '    const epoch = this.#points.find((point) => point.serial >= serial)?.epoch;',
    test: 'a point is a serial',
  },
];
