import { BackupError } from '../../../../src/common/errors.ts';
import type { StateFile, StateStorage } from '../../../../src/volume/state-directory/state-storage.ts';

/** One file: what is durable, and the writes that are not. */
interface Content {
  durable: Uint8Array;
  written: Uint8Array;
  unsynced: { at: number; bytes: Uint8Array }[];
  identity: string;
}

type Below = (limit: number) => number;
type Naming = (names: Map<string, Content>) => void;

/**
 * A disk in memory for the state of a volume. It can lose power: then each write that was not synced is there, is not, or is torn, and
 * each creation, renaming and removal that was not synced has happened or not, in their order.
 */
export class StateDisk {
  /** Whether a call fails, and before or after it has taken effect. */
  fault: (call: string) => 'before' | 'after' | undefined = () => undefined;
  #names = new Map<string, Content>();
  #durableNames = new Map<string, Content>();
  #namings: Naming[] = [];
  #files = 0;
  #life = 0;

  /** The storage as a process sees it: once that is dead, nothing of what it does happens any more. */
  open(): StateStorage {
    const life = this.#life;
    const call = <T>(name: string, work: () => T): Promise<T> => this.#alive(life, name, work);
    return {
      name: 'a storage in memory',
      list: () => call('list', () => [...this.#names.keys()]),
      create: (name) =>
        call('create', () => {
          const identity = String(++this.#files);
          const content: Content = { durable: new Uint8Array(0), written: new Uint8Array(0), unsynced: [], identity };
          this.#name((names) => names.set(name, content));
          return this.#file(content);
        }),
      open: (name) =>
        call('open', () => {
          const content = this.#names.get(name);
          if (content === undefined) throw new BackupError('DEVICE_NOT_FOUND', `there is no ${name}`);
          return this.#file(content);
        }),
      rename: (from, to) =>
        call('rename', () =>
          this.#name((names) => {
            const content = names.get(from);
            if (content !== undefined) names.set(to, content);
            names.delete(from);
          }),
        ),
      remove: (name) => call('remove', () => this.#name((names) => names.delete(name))),
      sync: async () => {
        const count = this.#namings.length;
        await turn();
        await call('sync', () => {
          for (const naming of this.#namings.splice(0, count)) naming(this.#durableNames);
        });
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }

  /** A call of a process, which may die in it. */
  async #alive<T>(life: number, name: string, work: () => T): Promise<T> {
    const never = new Promise<never>(() => {});
    if (life !== this.#life) return never;
    return this.#attempt(name, () => (life === this.#life ? work() : never));
  }

  #attempt<T>(name: string, work: () => T): T {
    const fault = this.fault(name);
    if (fault === 'before') throw new BackupError('DEVICE_IO', `${name} has failed`);
    const result = work();
    if (fault === 'after') throw new BackupError('DEVICE_IO', `${name} has failed, and has been done`);
    return result;
  }

  /** The process dies: nothing that it has under way happens any more. What was written stays. */
  kill(): void {
    this.#life++;
  }

  /** The power fails. */
  losePower(below: Below): void {
    this.kill();
    // A prefix of the namings since the last sync has happened.
    const names = new Map(this.#durableNames);
    for (const naming of this.#namings.slice(0, below(this.#namings.length + 1))) naming(names);
    this.#names = names;
    this.#durableNames = new Map(names);
    this.#namings = [];
    for (const content of new Set(names.values())) {
      let bytes = content.durable;
      for (const { at, bytes: part } of content.unsynced) {
        const kept = [part.length, 0, below(part.length + 1)][below(3)] as number;
        bytes = written(bytes, at, part.subarray(0, kept));
      }
      content.durable = content.written = bytes;
      content.unsynced = [];
    }
  }

  /** The bytes of a file, to damage them. */
  bytesOf(name: string): Uint8Array {
    return (this.#names.get(name) as Content).written;
  }

  /** The same files, in another place. */
  copy(): StateDisk {
    const copy = new StateDisk();
    for (const [name, { written: bytes }] of this.#names) {
      const content = { durable: bytes.slice(), written: bytes.slice(), unsynced: [], identity: `copy ${name}` };
      copy.#names.set(name, content);
      copy.#durableNames.set(name, content);
    }
    return copy;
  }

  /** What is there now, to be put back later: a disk that is reverted. The files stay the same ones. */
  image(): () => void {
    const copied = (content: Content): Content => ({
      ...content,
      ...{ durable: content.written.slice(), written: content.written.slice(), unsynced: [] },
    });
    const names = [...this.#names].map(([name, content]) => [name, copied(content)] as const);
    return () => {
      this.kill();
      this.#names = new Map(names.map(([name, content]) => [name, copied(content)]));
      this.#durableNames = new Map(this.#names);
      this.#namings = [];
    };
  }

  #name(naming: Naming): void {
    naming(this.#names);
    this.#namings.push(naming);
  }

  #file(content: Content): StateFile {
    const life = this.#life;
    const never = new Promise<never>(() => {});
    const write = (at: number, from: Uint8Array) => {
      const bytes = from.slice();
      content.written = written(content.written, at, bytes);
      content.unsynced.push({ at, bytes });
    };
    const sync = (count: number) => {
      for (const { at, bytes } of content.unsynced.splice(0, count))
        content.durable = written(content.durable, at, bytes);
    };
    return {
      identity: content.identity,
      size: async () => content.written.length,
      read: async (at, into) => {
        if (at + into.length > content.written.length) throw new BackupError('SHORT_READ', 'a file is shorter');
        into.set(content.written.subarray(at, at + into.length));
      },
      write: async (at, from) => {
        const half = from.length >>> 1;
        if (life !== this.#life) return never;
        write(at, from.subarray(0, half));
        await turn();
        await this.#alive(life, 'write', () => write(at + half, from.subarray(half)));
      },
      sync: async () => {
        const count = content.unsynced.length;
        await turn();
        await this.#alive(life, 'syncFile', () => sync(count));
      },
      writeSync: (at, from) => this.#attempt('write', () => write(at, from)),
      syncSync: () => this.#attempt('syncFile', () => sync(content.unsynced.length)),
      close: async () => {},
    };
  }
}

function written(bytes: Uint8Array, at: number, part: Uint8Array): Uint8Array {
  if (part.length === 0) return bytes;
  const longer = new Uint8Array(Math.max(bytes.length, at + part.length));
  longer.set(bytes);
  longer.set(part, at);
  return longer;
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
