import { BackupError } from '../../../src/common/errors.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { turn } from '../../support/turn.ts';
import type { Defect } from './defect.ts';

const SECTOR = { sectorSize: 512 };

/** What goes wrong with ranges, transfers and buffers. */
export const transferDefects: readonly Defect[] = [
  [
    'its size is not whole sectors',
    /has a size/,
    (size) => Object.defineProperty(new MemoryDevice(size), 'sectorSize', { value: 1000 }),
  ],
  ['it is smaller than asked for', /has a size/, (size) => new MemoryDevice(size / 2)],
  [
    'its size changes with what is written',
    /has a size/,
    (size) =>
      new (class extends MemoryDevice {
        override writeSync(offset: number, from: Uint8Array) {
          super.writeSync(offset, from);
          Object.defineProperty(this, 'size', { value: 512 });
        }
      })(size),
  ],
  [
    'it wants more than nothing',
    /length of zero/,
    (size) =>
      new (class extends MemoryDevice {
        override readSync(offset: number, into: Uint8Array) {
          if (into.length === 0) throw new BackupError('MISALIGNED', 'nothing to read');
          super.readSync(offset, into);
        }
      })(size),
  ],
  [
    'it writes up to its end before it refuses',
    /OUT_OF_RANGE/,
    (size) =>
      new (class extends MemoryDevice {
        override async write(offset: number, from: Uint8Array) {
          if (offset >= 0 && offset < this.size) this.bytes.set(from.subarray(0, this.size - offset), offset);
          this.writeSync(offset, from);
        }
      })(size),
  ],
  [
    'it cuts off what does not lie within it',
    /OUT_OF_RANGE/,
    (size) =>
      new (class extends MemoryDevice {
        override readSync(offset: number, into: Uint8Array) {
          const length = Math.max(0, Math.min(into.length, this.size - offset));
          if (offset >= 0 && length > 0) super.readSync(offset, into.subarray(0, length));
        }
      })(size),
  ],
  [
    'it refuses with errors of its own',
    /OUT_OF_RANGE/,
    (size) =>
      new (class extends MemoryDevice {
        override writeSync(offset: number, from: Uint8Array) {
          if (offset + from.length > this.size) throw Object.assign(new Error('too far'), { code: 'OUT_OF_RANGE' });
          super.writeSync(offset, from);
        }
      })(size),
  ],
  [
    'it takes parts of sectors',
    /MISALIGNED/,
    (size) =>
      new (class extends MemoryDevice {
        override readSync(offset: number, into: Uint8Array) {
          if (offset < 0 || offset + into.length > size) throw new BackupError('OUT_OF_RANGE', 'too far');
          into.set(this.bytes.subarray(offset, offset + into.length));
        }
      })(size, SECTOR),
  ],
  [
    'it is read-only and is written all the same',
    /READ_ONLY/,
    (size) => Object.defineProperty(new MemoryDevice(size), 'readOnly', { value: true }),
  ],
  [
    'it reads something else every time',
    /the same twice/,
    (size) =>
      new (class extends MemoryDevice {
        #reads = 0;
        override readSync(offset: number, into: Uint8Array) {
          super.readSync(offset, into);
          if (into.length > 0) into[0] = this.#reads++;
        }
      })(size),
  ],
  [
    'it does not fill the last byte of a read',
    /fills the whole buffer/,
    (size) =>
      new (class extends MemoryDevice {
        override readSync(offset: number, into: Uint8Array) {
          super.readSync(offset, into.length > 60_000 ? into.subarray(0, -1) : into);
        }
      })(size),
  ],
  [
    'it does not take the last bytes of a long write',
    /fills the whole buffer/,
    (size) =>
      new (class extends MemoryDevice {
        override writeSync(offset: number, from: Uint8Array) {
          super.writeSync(offset, from.length > 500_000 ? from.subarray(0, 500_000) : from);
        }
      })(size),
  ],
  [
    'it reads into the beginning of the memory behind a view',
    /respects views/,
    (size) =>
      new (class extends MemoryDevice {
        override readSync(offset: number, into: Uint8Array) {
          super.readSync(offset, new Uint8Array(into.buffer, 0, into.length));
        }
      })(size),
  ],
  [
    'it changes what it is given to write',
    /respects views/,
    (size) =>
      new (class extends MemoryDevice {
        override writeSync(offset: number, from: Uint8Array) {
          super.writeSync(offset, from);
          from.fill(0);
        }
      })(size),
  ],
  [
    'it writes pages of 4096 bytes whole',
    /outside the range of a write/,
    (size) =>
      new (class extends MemoryDevice {
        override writeSync(offset: number, from: Uint8Array) {
          super.writeSync(offset, from);
          const end = offset + from.length;
          this.bytes.fill(0, end, Math.min(this.size, Math.ceil(end / 4096) * 4096));
        }
      })(size),
  ],
  [
    'it writes from the buffer after it has answered',
    /keeps no reference/,
    (size) =>
      new (class extends MemoryDevice {
        override async write(offset: number, from: Uint8Array) {
          this.writeSync(offset, from);
          void turn().then(() => this.bytes.set(from, offset));
        }
      })(size),
  ],
  [
    'it fills the buffer of the read before',
    /keeps no reference/,
    (size) =>
      new (class extends MemoryDevice {
        #last: Uint8Array | undefined;
        override readSync(offset: number, into: Uint8Array) {
          super.readSync(offset, into);
          this.#last = into;
        }
        override writeSync(offset: number, from: Uint8Array) {
          super.writeSync(offset, from);
          this.#last?.fill(0);
        }
      })(size),
  ],
  [
    'it answers a write before it has landed',
    /sees it/,
    (size) =>
      new (class extends MemoryDevice {
        override async write(offset: number, from: Uint8Array) {
          const copy = from.slice();
          setImmediate(() => offset + copy.length <= this.size && this.bytes.set(copy, offset));
        }
      })(size),
  ],
  [
    'writes side by side undo each other',
    /many calls at once/,
    (size) =>
      new (class extends MemoryDevice {
        override async write(offset: number, from: Uint8Array) {
          const start = offset - (offset % 4096);
          const end = Math.min(this.size, Math.ceil((offset + from.length) / 4096) * 4096);
          const around = this.bytes.slice(start, end);
          await turn();
          around.set(from, offset - start);
          this.bytes.set(around, start);
        }
      })(size),
  ],
  [
    'overlapping writes mix into bytes that nobody wrote',
    /overlapping writes/,
    (size) =>
      new (class extends MemoryDevice {
        #writing = 0;
        override async write(offset: number, from: Uint8Array) {
          this.#writing++;
          await turn();
          this.bytes.set(from, offset);
          if (this.#writing-- === 1 && from.length === 16_384) this.bytes.fill(0, offset, offset + 8192);
        }
      })(size),
  ],
];
