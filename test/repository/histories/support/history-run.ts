import { MemoryDevice } from '../../../../src/device/memory-device.ts';
import type { BackupOptions } from '../../../../src/repository/backup/backup-job.ts';
import { BLOCK } from '../../support/repositories.ts';
import type { Guest } from './guest.ts';
import type { Host } from './host.ts';
import { type Kept, sameBytes } from './ledger.ts';
import type { Shape, Step, StepOf } from './steps.ts';
import { codeOf, isLive, type Tally, World } from './world.ts';

/** A backup that somebody has open. */
interface View {
  readonly id: string;
  readonly host: Host;
  readonly image: Awaited<ReturnType<Host['repository']['openBackup']>>;
}

/** Runs one history. @throws where something is not as it must be */
export async function runHistory(shape: Shape, steps: readonly Step[], tally: Tally): Promise<void> {
  const world = await World.open(shape, tally);
  try {
    const run = new HistoryRun(world);
    for (const step of steps) await run.step(step);
    await run.finish();
  } finally {
    await world.close();
  }
}

class HistoryRun {
  readonly #world: World;
  readonly #views: View[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  step(step: Step): Promise<void> {
    this.#world.count(step.do);
    switch (step.do) {
      case 'write':
        return this.#write(step.volume, step.writes);
      case 'backup':
        return this.#backup(step);
      case 'begin':
        return this.#begin(step);
      case 'finish':
        return this.#finish(step);
      case 'cancel':
      case 'pause':
        return this.#steer(step);
      case 'group':
        return this.#group(step);
      case 'forget':
        return this.#forget(step);
      case 'retain':
        return this.#retain(step);
      case 'prune':
        return this.#prune(step);
      case 'view':
        return this.#view(step);
      case 'look':
        return this.#look(step);
      case 'restore':
        return this.#restore(step);
      case 'diff':
        return this.#diff(step);
      case 'remount':
        return this.#remount(step);
      case 'reopen':
      case 'die':
        return this.#reopen(step);
    }
  }

  /** Ends everything in peace: all backups are good, new ones can be made, and nothing is left once all are forgotten. */
  async finish(): Promise<void> {
    const { running, guests, hosts, ledger, store } = this.#world;
    for (const each of [...running]) await this.#world.settle(each);
    const last: Kept[] = [];
    for (const [index, guest] of guests.entries()) {
      const begun = await this.#world.begin(hosts[index % hosts.length] as Host, guest, {});
      if (begun === undefined) throw new Error('the last backup did not begin');
      await this.#world.settle(begun);
      last.push(begun);
    }
    if (!last.every(({ id }) => ledger.kept.has(id))) throw new Error('a last backup failed');
    await this.#world.check(true);
    const { repository } = hosts[0] as Host;
    await repository.forget([...ledger.kept.keys()]);
    for (const id of [...ledger.kept.keys()]) ledger.forget(id);
    for (let run = 0; run < 3; run++) await repository.prune({ graceMs: 0, fenceAfterMs: 0, keepFencedMs: 0 });
    for await (const { key } of store.list('packs/')) throw new Error(`nobody needs ${key}, and it is still there`);
  }

  async #write(volume: number, writes: StepOf<'write'>['writes']): Promise<void> {
    for (const each of writes) await this.#guest(volume).write(each);
  }

  async #backup(step: StepOf<'backup'>): Promise<void> {
    const running = await this.#world.begin(this.#host(step.host), this.#guest(step.volume), this.#how(step));
    if (running === undefined) return;
    await this.#write(step.volume, step.before);
    const settling = this.#world.settle(running, step.mishap);
    const writing = (async () => {
      await new Promise((resolve) => setImmediate(resolve));
      await this.#write(step.volume, step.during);
    })();
    await Promise.all([settling, writing]);
    await this.#world.check(step.mishap !== undefined);
  }

  async #begin(step: StepOf<'begin'>): Promise<void> {
    await this.#world.begin(this.#host(step.host), this.#guest(step.volume), this.#how(step), step.mishap);
  }

  async #finish({ pick, mishap }: StepOf<'finish'>): Promise<void> {
    const running = pickOf([...this.#world.running], pick);
    if (running === undefined) return;
    await this.#world.settle(running, mishap);
    await this.#world.check(mishap !== undefined);
  }

  async #steer({ do: what, pick, mishap }: StepOf<'cancel' | 'pause'>): Promise<void> {
    const running = pickOf([...this.#world.running], pick);
    if (running === undefined) return;
    if (what === 'pause') {
      running.job.pause();
      return;
    }
    await this.#world.suffer(running.host, mishap, () => running.job.cancel());
    await this.#world.abandoned((each) => each === running);
    await this.#world.check(false);
  }

  async #group({ host: number, writes, mishap }: StepOf<'group'>): Promise<void> {
    const host = this.#host(number);
    const { guests, running } = this.#world;
    const isBusy = [...running].some((each) => isLive(each) && !each.isTaken);
    const contents = guests.map((guest) => guest.copy());
    const parts = guests.map(({ volume, name }) => ({ source: volume, volume: name }));
    const begun = await this.#world.suffer(host, mishap, () => host.repository.startGroup(parts));
    if ('error' in begun.outcome) {
      const isExpected = begun.struck || (isBusy && codeOf(begun.outcome.error) === 'VOLUME_BUSY');
      if (!isExpected) throw new Error('a group could not begin', { cause: begun.outcome.error });
    } else {
      const { jobs } = begun.outcome.value;
      for (const [index] of guests.entries()) await this.#write(index, writes);
      const members = jobs.map((job, index) => {
        const guest = guests[index] as Guest;
        const content = contents[index] as Uint8Array;
        return { id: job.id, volume: guest.name, content, job, host, guest, isHurt: begun.struck, isTaken: false };
      });
      for (const each of members) running.add(each);
      for (const { job } of members) job.sweep();
      const done = await this.#world.suffer(host, mishap, () => Promise.all(members.map(({ job }) => job.done)));
      const mayFail = begun.struck || done.struck;
      if ('error' in done.outcome && !mayFail) throw new Error('a group failed', { cause: done.outcome.error });
      await this.#world.abandoned((each) => members.includes(each));
      const kept = members.filter(({ id }) => this.#world.ledger.kept.has(id)).length;
      if (kept !== 0 && kept !== members.length) throw new Error(`${kept} backups of a group were committed`);
    }
    await this.#world.check(mishap !== undefined);
  }

  async #forget({ host: number, mask, mishap }: StepOf<'forget'>): Promise<void> {
    const host = this.#host(number);
    const { ledger } = this.#world;
    const doomed = [...ledger.kept.values()].filter((_kept, index) => ((mask >> (index % 8)) & 1) === 1);
    const { outcome, struck } = await this.#world.suffer(host, mishap, () =>
      host.repository.forget(doomed.map(({ id }) => id)),
    );
    if (!('error' in outcome)) for (const { id } of doomed) ledger.forget(id);
    else if (!struck) throw new Error('backups could not be forgotten', { cause: outcome.error });
    else if (codeOf(outcome.error) === 'COMMIT_UNKNOWN') for (const backup of doomed) ledger.doubt(backup);
    await this.#world.check(false);
  }

  async #retain({ host: number, keepLast, mishap }: StepOf<'retain'>): Promise<void> {
    const host = this.#host(number);
    const { ledger, guests } = this.#world;
    await this.#world.settleComplete();
    const before = guests.map(({ name }) => ledger.of(name));
    const { outcome, struck } = await this.#world.suffer(host, mishap, () =>
      host.repository.applyRetention({ keepLast }, { allVolumes: true }),
    );
    if ('value' in outcome) {
      for (const { id } of outcome.value.forgotten) ledger.forget(id);
      for (const [index, { name }] of guests.entries()) {
        const expected = Math.min(keepLast, before[index]?.length ?? 0);
        if (ledger.of(name).length < expected) throw new Error('retention forgot too many');
        const kept = outcome.value.kept.filter(({ volume, intact }) => volume === name && intact);
        if (kept.length > keepLast) throw new Error('retention kept too many');
      }
    } else if (!struck) throw new Error('retention failed', { cause: outcome.error });
    else if (codeOf(outcome.error) === 'COMMIT_UNKNOWN') {
      for (const backup of before.filter(({ length }) => length > keepLast).flat()) ledger.doubt(backup);
    }
    await this.#world.check(false);
  }

  async #prune({ host: number, repackBelow, packBytes, isPatient, mishap }: StepOf<'prune'>): Promise<void> {
    const host = this.#host(number);
    const options = { graceMs: isPatient === 0 ? 60_000 : 0, fenceAfterMs: 0, keepFencedMs: 0 };
    const { outcome, struck } = await this.#world.suffer(host, mishap, () =>
      host.repository.prune({ ...options, repackBelow, packBytes, minRepackGainBytes: 0 }),
    );
    if ('value' in outcome) {
      if (outcome.value.repackedPacks > 0) this.#world.count('repacked');
      if (outcome.value.deletedObjects > 0) this.#world.count('deleted');
      if (outcome.value.repackError !== undefined && !struck) throw outcome.value.repackError;
    } else if (!struck) throw new Error('pruning failed', { cause: outcome.error });
    await this.#world.check(true);
  }

  async #view({ host: number, pick, mishap }: StepOf<'view'>): Promise<void> {
    const host = this.#host(number);
    const kept = pickOf([...this.#world.ledger.kept.values()], pick);
    if (kept === undefined) return;
    const { outcome, struck } = await this.#world.suffer(host, mishap, () => host.repository.openBackup(kept.id));
    if ('value' in outcome) this.#views.push({ id: kept.id, host, image: outcome.value });
    else if (!struck) throw new Error('a backup could not be opened', { cause: outcome.error });
  }

  /** Reads from a backup that was opened some time ago, and may be forgotten, moved and deleted since. */
  async #look({ pick, at, mishap }: StepOf<'look'>): Promise<void> {
    const view = pickOf(this.#views, pick);
    if (view === undefined) return;
    const expected = this.#world.ledger.contents.get(view.id) as Uint8Array;
    const offset = Math.floor(at * expected.length);
    const part = expected.subarray(offset, offset + 30_000);
    for (const each of mishap === undefined ? [undefined] : [mishap, undefined]) {
      const bytes = new Uint8Array(part.length).fill(0xee);
      const { outcome, struck } = await this.#world.suffer(view.host, each, () => view.image.read(offset, bytes));
      if (!('error' in outcome)) sameBytes(bytes, part, `an opened backup ${view.id}`);
      else {
        const isForgotten = !this.#world.ledger.kept.has(view.id) && codeOf(outcome.error) === 'BACKUP_FORGOTTEN';
        if (!struck && !isForgotten) throw new Error('an opened backup could not be read', { cause: outcome.error });
      }
    }
  }

  /** Onto a device that holds another backup, of which only what differs is written; a failed one is resumed. */
  async #restore({ host: number, pick, other, mishap }: StepOf<'restore'>): Promise<void> {
    const host = this.#host(number);
    const kept = [...this.#world.ledger.kept.values()];
    const [wanted, before] = [pickOf(kept, pick), pickOf(kept, other)];
    if (wanted === undefined || before === undefined) return;
    const holds = before.content.length === wanted.content.length ? before : undefined;
    const device = new MemoryDevice(wanted.content.length);
    device.bytes.set(holds?.content ?? device.bytes.fill(0xee));
    for (const each of mishap === undefined ? [undefined] : [mishap, undefined]) {
      const isFirst = each === mishap;
      const options = { deviceHolds: isFirst ? holds?.id : undefined, resume: !isFirst };
      const { outcome, struck } = await this.#world.suffer(host, each, () =>
        host.repository.restore(wanted.id, device, options),
      );
      if (!('error' in outcome)) sameBytes(device.bytes, wanted.content, `restored backup ${wanted.id}`);
      else if (!struck) throw new Error('a backup could not be restored', { cause: outcome.error });
    }
  }

  async #diff({ host, pick, other }: StepOf<'diff'>): Promise<void> {
    const kept = [...this.#world.ledger.kept.values()];
    const [a, b] = [pickOf(kept, pick), pickOf(kept, other)];
    if (a === undefined || b === undefined || a.content.length !== b.content.length) return;
    const differing: number[] = [];
    for (let from = 0; from < a.content.length; from += BLOCK) {
      const [one, two] = [a, b].map(({ content }) => content.subarray(from, from + BLOCK)) as [Uint8Array, Uint8Array];
      if (Buffer.compare(one, two) !== 0) differing.push(from);
    }
    const told: number[] = [];
    for await (const { offset, length } of this.#host(host).repository.diff(a.id, b.id)) {
      for (let from = offset; from < offset + length; from += BLOCK) told.push(from);
    }
    if (told.join() !== differing.join()) throw new Error(`diff says ${told.join()}, and it is ${differing.join()}`);
  }

  async #remount({ volume, blocks }: StepOf<'remount'>): Promise<void> {
    const guest = this.#guest(volume);
    await guest.reopen(Math.max(BLOCK, guest.size + blocks * BLOCK));
    await this.#world.abandoned((running) => running.guest === guest);
  }

  async #reopen({ do: how, host: number }: StepOf<'reopen' | 'die'>): Promise<void> {
    const host = this.#host(number);
    if (how === 'die') await host.die();
    else await host.repository.close({ jobs: 'cancel' });
    await this.#world.abandoned((running) => running.host === host);
    for (const view of this.#views.splice(0)) if (view.host !== host) this.#views.push(view);
    await host.open();
    await this.#world.check(how === 'die');
  }

  #how({ base, takeOver, pick }: Pick<StepOf<'begin'>, 'base' | 'takeOver' | 'pick'>): Omit<BackupOptions, 'volume'> {
    if (base !== 'any') return { base: base === 'none' ? base : undefined, takeOver };
    return { base: pickOf([...this.#world.ledger.kept.keys()], pick), takeOver };
  }

  #host(number: number): Host {
    return pickOf(this.#world.hosts, number) as Host;
  }

  #guest(number: number): Guest {
    return pickOf(this.#world.guests, number) as Guest;
  }
}

function pickOf<T>(those: readonly T[], number: number): T | undefined {
  return those[number % those.length];
}
