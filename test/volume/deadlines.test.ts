import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Deadlines } from '../../src/volume/preimage-copies.ts';

describe('deadlines', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('are met after their time, each its own', () => {
    const deadlines = new Deadlines(100);
    const met: string[] = [];
    deadlines.start(() => met.push('first'));
    vi.advanceTimersByTime(60);
    deadlines.start(() => met.push('second'));
    vi.advanceTimersByTime(39);
    expect(met).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(met).toEqual(['first']);
    vi.advanceTimersByTime(60);
    expect(met).toEqual(['first', 'second']);
  });

  test('that were stopped are not met, and the next one gets the same timer and all of its time', () => {
    const deadlines = new Deadlines(100);
    const met: string[] = [];
    const first = deadlines.start(() => met.push('first'));
    vi.advanceTimersByTime(99);
    deadlines.stop(first as NonNullable<typeof first>);
    const second = deadlines.start(() => met.push('second'));
    expect(second).toBe(first);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(99);
    expect(met).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(met).toEqual(['second']);
  });

  test('whose timer has run out, in use or not, are not wound up again', () => {
    const deadlines = new Deadlines(100);
    const met: string[] = [];
    const [idle, used] = [deadlines.start(() => met.push('idle')), deadlines.start(() => met.push('used'))];
    if (idle === undefined || used === undefined) throw new Error('they have a time');
    deadlines.stop(idle);
    vi.advanceTimersByTime(100);
    deadlines.stop(used);
    expect(met).toEqual(['used']);
    const next = deadlines.start(() => met.push('next'));
    expect([idle, used]).not.toContain(next);
    vi.advanceTimersByTime(100);
    expect(met).toEqual(['used', 'next']);
  });

  test('that never come need no timer, and those let go of leave none', () => {
    expect(new Deadlines(Number.POSITIVE_INFINITY).start(() => {})).toBeUndefined();
    const deadlines = new Deadlines(100);
    const stopped = deadlines.start(() => {});
    deadlines.start(() => {});
    deadlines.stop(stopped as NonNullable<typeof stopped>);
    deadlines.close();
    expect(vi.getTimerCount()).toBe(1);
  });
});

test('a process ends without waiting for a deadline that was stopped, and not before one that was not', () => {
  const source = new URL('../../src/volume/preimage-copies.ts', import.meta.url).href;
  const program = (rest: string) => `
    import { Deadlines } from ${JSON.stringify(source)};
    const deadlines = new Deadlines(${rest === '' ? 600_000 : 50});
    for (let i = 0; i < 3; i++) deadlines.stop(deadlines.start(() => console.log('stopped')));
    ${rest}`;
  const run = (rest: string) =>
    execFileSync(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', program(rest)],
      { encoding: 'utf8', timeout: 60_000 },
    );
  expect(run('')).toBe('');
  expect(run("deadlines.start(() => console.log('met'));")).toBe('met\n');
});
