import { describe, expect, test } from 'vitest';
import { runAtOnce } from '../../../src/common/yield-to-event-loop.ts';
import { anchorBytes, anchorNumbers, anchorsIn, haveSameAnchor } from '../../../src/repository/format/anchors.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/repository/format/checkpoint-codec.ts';
import { EMPTY_STATE } from '../../../src/repository/format/log-state.ts';
import { decideCollect } from '../../../src/repository/log/entries/collect.ts';
import { anchorsOf } from '../../model/anchors.ts';
import { withCode } from '../../support/with-code.ts';
import { decodeEntry, encodeEntry } from '../format/support/codecs-at-once.ts';
import { after, collect, entryAfter, from, id32, open } from './support/facts.ts';
import { applyEntry } from './support/fold-at-once.ts';

/** L1 and L7 in the state: the floor, and the hashes by which a position below it is recognised. */

const sha256 = id32();
const floor = (seq: number) => ({ seq, sha256 });
const config = { type: 'config', quarantine: [], release: [] } as const;
const five = () => after(config, config, config, config, config);

describe('L1: a floor', () => {
  test('is in its entry and in the state after it, and comes back from both', async () => {
    const state = from(five(), collect({ floor: floor(4) }));
    expect(state.floor).toEqual(floor(4));
    const entry = entryAfter(five(), collect({ floor: floor(4) }));
    expect(decodeEntry(undefined, 6, encodeEntry(undefined, entry, []).bytes).entry).toEqual(entry);
    const checkpoint = await encodeCheckpoint(undefined, state);
    expect({ ...(await decodeCheckpoint(undefined, 6, checkpoint!)) }).toEqual({ ...state });
    expect(from(state, collect({})).floor).toEqual(floor(4));
  });

  test('only rises, and is below its entry', () => {
    const state = from(five(), collect({ floor: floor(4) }));
    for (const seq of [3, 4, 7, 8]) {
      expect(() => from(state, collect({ floor: floor(seq) })), String(seq)).toThrow(withCode('LOG_CORRUPT'));
    }
    expect(from(state, collect({ floor: floor(6) })).floor).toEqual(floor(6));
  });

  test('makes a collection by itself, unless it is no higher than the present one', () => {
    const plan = { markedAt: 5, live: new Set<string>(), listed: [] };
    expect(runAtOnce(decideCollect(five(), plan))).toBeUndefined();
    expect(runAtOnce(decideCollect(five(), { ...plan, floor: floor(4) }))).toMatchObject({ floor: floor(4) });
    const state = from(five(), collect({ floor: floor(4) }));
    expect(runAtOnce(decideCollect(state, { ...plan, markedAt: 6, floor: floor(4) }))).toBeUndefined();
  });
});

describe('L7: anchors', () => {
  test('are those that the model has explored', () => {
    for (let newest = 0; newest <= 600; newest++) expect(anchorNumbers(newest)).toEqual(anchorsOf(newest, 8));
    expect(anchorNumbers(2 ** 40).length).toBeLessThan(200);
  });

  test('are the hashes of their entries, whatever was folded in between', () => {
    let state = EMPTY_STATE;
    const hashes = [state.hash];
    for (let seq = 1; seq <= 100; seq++) {
      hashes.push(id32());
      state = applyEntry(state, entryAfter(state, config), hashes[seq]!);
      const expected = anchorNumbers(seq).map((each) => ({ seq: each, hash: hashes[each]!.slice(0, 16) }));
      expect(state.anchors).toEqual(expected);
      expect(anchorsIn(anchorBytes(state.anchors), seq, state.hash)).toEqual(state.anchors);
    }
    const bytes = anchorBytes(state.anchors);
    expect(anchorsIn(bytes.subarray(16), 100, state.hash)).toBeUndefined();
    expect(anchorsIn(bytes, 100, hashes[99]!)).toBeUndefined();
  });

  test('tell histories apart from the newest number that both have', () => {
    const common = after(open({ a: undefined }), open({ b: undefined }));
    const [one, other] = [from(common, config), from(common, config)];
    expect(haveSameAnchor(common.anchors, one.anchors)).toBe(true);
    expect(haveSameAnchor(one.anchors, from(one, config, config).anchors)).toBe(true);
    expect(haveSameAnchor(one.anchors, from(other, config).anchors)).toBe(false);
    expect(haveSameAnchor([], one.anchors)).toBeUndefined();
  });
});
