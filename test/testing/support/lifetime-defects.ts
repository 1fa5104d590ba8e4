import { BackupError } from '../../../src/common/errors.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { turn } from '../../support/turn.ts';
import type { Defect } from './defect.ts';

/** What goes wrong with flushing, other kinds of writes, extents, aborting and closing. */
export const lifetimeDefects: readonly Defect[] = [
  [
    'the stamp stays the same when it is written',
    /^its stamp/,
    (size) => Object.assign(new MemoryDevice(size), { stamp: async () => ({ identity: 'a device', version: 1 }) }),
  ],
  [
    'its flush throws away what it should keep',
    /^flushes/,
    (size) =>
      new (class extends MemoryDevice {
        override async flush() {
          await turn();
          this.bytes.fill(0);
        }
      })(size),
  ],
  [
    'its doors lead to different places',
    /both ends apart/,
    (size) =>
      new (class extends MemoryDevice {
        #other = new MemoryDevice(size);
        override read(offset: number, into: Uint8Array) {
          return this.#other.read(offset, into);
        }
        override write(offset: number, from: Uint8Array) {
          return this.#other.write(offset, from);
        }
      })(size),
  ],
  [
    'its synchronous door is shut while a write is in flight',
    /synchronous and asynchronous calls/,
    (size) =>
      new (class extends MemoryDevice {
        #writing = 0;
        override async write(offset: number, from: Uint8Array) {
          this.#writing++;
          await turn();
          super.writeSync(offset, from);
          this.#writing--;
        }
        override writeSync(offset: number, from: Uint8Array) {
          if (this.#writing > 0) throw new BackupError('WRITES_IN_FLIGHT', 'later');
          super.writeSync(offset, from);
        }
      })(size),
  ],
  [
    'its write-zeroes forgets the end of the range',
    /^write-zeroes/,
    (size) =>
      new (class extends MemoryDevice {
        override async writeZeroes(offset: number, length: number) {
          await super.writeZeroes(offset, length - (length % 4096));
        }
      })(size),
  ],
  [
    'its write-zeroes rounds up',
    /^write-zeroes/,
    (size) =>
      new (class extends MemoryDevice {
        override async writeZeroes(offset: number, length: number) {
          await super.writeZeroes(offset, Math.min(this.size - offset, Math.ceil(length / 4096) * 4096));
        }
      })(size),
  ],
  [
    'what it discarded reads differently later',
    /a discarded range/,
    (size) =>
      new (class extends MemoryDevice {
        override async discard(offset: number, length: number) {
          setImmediate(() => this.bytes.fill(0, offset, offset + length));
        }
      })(size),
  ],
  [
    'its discard takes the neighbours along',
    /a discarded range/,
    (size) =>
      new (class extends MemoryDevice {
        override async discard(offset: number, length: number) {
          this.bytes.fill(0, offset, offset + length + 1);
        }
      })(size),
  ],
  [
    'its discard and its write-zeroes take their time after they answered',
    /side by side all take effect/,
    (size) =>
      new (class extends MemoryDevice {
        override async writeZeroes(offset: number, length: number) {
          setTimeout(() => this.bytes.fill(0, offset, offset + length), 1);
        }
      })(size),
  ],
  ['its extents leave a gap', /^extents/, (size) => withExtents(size, (all) => all.slice(1))],
  ['its extents descend', /^extents/, (size) => withExtents(size, (all) => all.reverse())],
  ['its extents overlap', /^extents/, (size) => withExtents(size, (all) => [...all, ...all])],
  [
    'its extents go on behind the range',
    /^extents/,
    (size) => withExtents(size, (all) => all.map((each) => ({ ...each, length: each.length + 512 }))),
  ],
  [
    'its extents call data zero',
    /^extents/,
    (size) => withExtents(size, (all) => all.map((each) => ({ ...each, kind: 'zero' }))),
  ],
  [
    'its extents are refused nothing',
    /OUT_OF_RANGE/,
    (size) =>
      Object.assign(new MemoryDevice(size), {
        async *extents(offset: number, length: number) {
          yield { offset, length, kind: 'data' };
        },
      }),
  ],
  [
    'it writes although its signal had aborted',
    /aborted already/,
    (size) =>
      new (class extends MemoryDevice {
        override async write(offset: number, from: Uint8Array) {
          this.writeSync(offset, from);
        }
      })(size),
  ],
  [
    'it rejects with an error of its own when it is aborted',
    /aborted already/,
    (size) =>
      new (class extends MemoryDevice {
        override async flush(options?: { signal?: AbortSignal | undefined }) {
          if (options?.signal?.aborted) throw new DOMException('aborted', 'AbortError');
        }
      })(size),
  ],
  [
    'aborted under way it rejects with something else than the reason',
    /aborted under way/,
    (size) =>
      new (class extends MemoryDevice {
        override async read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal | undefined }) {
          options?.signal?.throwIfAborted();
          await turn();
          if (options?.signal?.aborted) throw new BackupError('DEVICE_IO', 'aborted');
          this.readSync(offset, into);
        }
      })(size),
  ],
  [
    'it rejects an aborted read at once and reads on',
    /aborted read does not touch/,
    (size) =>
      new (class extends MemoryDevice {
        override async read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal | undefined }) {
          options?.signal?.throwIfAborted();
          const done = turn()
            .then(turn)
            .then(turn)
            .then(() => this.readSync(offset, into));
          const { promise, reject } = Promise.withResolvers<void>();
          options?.signal?.addEventListener('abort', () => reject(options.signal?.reason));
          await Promise.race([done, promise]);
        }
      })(size),
  ],
  [
    'it rejects an aborted write at once and writes on',
    /aborted write leaves/,
    (size) =>
      new (class extends MemoryDevice {
        override async write(offset: number, from: Uint8Array, options?: { signal?: AbortSignal | undefined }) {
          options?.signal?.throwIfAborted();
          const done = turn()
            .then(turn)
            .then(turn)
            .then(() => this.writeSync(offset, from));
          const { promise, reject } = Promise.withResolvers<void>();
          options?.signal?.addEventListener('abort', () => reject(options.signal?.reason));
          await Promise.race([done, promise]);
        }
      })(size),
  ],
  [
    'it can be closed once only',
    /closing may be repeated/,
    (size) =>
      new (class extends MemoryDevice {
        #closed = false;
        override async close() {
          if (this.#closed) throw new BackupError('CLOSED', 'closed already');
          this.#closed = true;
          await super.close();
        }
      })(size),
  ],
  [
    'it goes on after it was closed',
    /closing may be repeated/,
    (size) =>
      new (class extends MemoryDevice {
        override async close() {}
      })(size),
  ],
  [
    'disposing of it closes nothing',
    /disposing closes/,
    (size) =>
      new (class extends MemoryDevice {
        override async [Symbol.asyncDispose]() {}
      })(size),
  ],
  [
    'closing it cuts off its reads, and they go on all the same',
    /in flight when it closes/,
    (size) =>
      new (class extends MemoryDevice {
        #cut = Promise.withResolvers<never>();
        override async read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal | undefined }) {
          options?.signal?.throwIfAborted();
          super.readSync(0, new Uint8Array(0)); // Refuses when closed.
          const done = turn()
            .then(turn)
            .then(() => this.#fill(offset, into));
          await Promise.race([done, this.#cut.promise]);
        }
        override async close() {
          this.#cut.promise.catch(() => {});
          this.#cut.reject(new BackupError('CLOSED', 'closed'));
          await super.close();
        }
        #fill(offset: number, into: Uint8Array) {
          if (offset < 0 || offset + into.length > this.size) throw new BackupError('OUT_OF_RANGE', 'too far');
          into.set(this.bytes.subarray(offset, offset + into.length));
        }
      })(size),
  ],
];

interface SomeExtent {
  readonly offset: number;
  readonly length: number;
  readonly kind: 'data' | 'zero';
}

/** A device whose extents are those of its halves, made worse. */
function withExtents(size: number, worsen: (all: SomeExtent[]) => SomeExtent[]): MemoryDevice {
  const device = new MemoryDevice(size);
  return Object.assign(device, {
    async *extents(offset: number, length: number, options?: { signal?: AbortSignal | undefined }) {
      options?.signal?.throwIfAborted();
      device.readSync(offset, new Uint8Array(length)); // Refuses what it must.
      const half = Math.floor(length / 2);
      const all: SomeExtent[] = [
        { offset, length: half, kind: 'data' },
        { offset: offset + half, length: length - half, kind: 'data' },
      ];
      yield* worsen(all.filter((extent) => extent.length > 0));
    },
  });
}
