import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { PipelineRecord } from '../../../src/index.ts';

/**
 * A host with a format of its own, which knows nothing of a repository. Each run has two files in the folder of a volume:
 *
 * - `N.log`, to which blocks are appended: the number of the run that it builds on, and then for each block its number, the length and
 *   CRC-32 of its bytes, and the bytes. A later entry for a block replaces an earlier one;
 * - `N.record`, the encoded `PipelineRecord`. It is written after the blocks, and again when the run was continued. A log without a
 *   record is a leftover.
 */
export class OwnFormatHost {
  readonly runs: OwnRun[] = [];
  readonly #folder: string;
  #lastNumber = 0;

  /** Opens a folder as a process before this one has left it. */
  constructor(folder: string) {
    this.#folder = folder;
    const numbers = readdirSync(folder).flatMap((name) => (name.endsWith('.log') ? [Number.parseInt(name, 10)] : []));
    for (const number of numbers.sort((a, b) => a - b)) {
      if (existsSync(join(folder, `${number}.record`))) this.runs.push(OwnRun.open(folder, number, this.runs));
      else rmSync(join(folder, `${number}.log`));
      this.#lastNumber = number;
    }
  }

  /** Begins a run that has the blocks which it does not store in common with an earlier one. */
  begin(base: OwnRun | undefined): OwnRun {
    const run = OwnRun.create(this.#folder, ++this.#lastNumber, base);
    this.runs.push(run);
    return run;
  }

  close(): void {
    for (const run of this.runs) run.close();
  }
}

const HEAD_BYTES = 4;
const ENTRY_BYTES = 12;

/** The blocks of one run, and its record. */
export class OwnRun {
  readonly number: number;
  /** The run that has the blocks which this one has inherited. */
  readonly base: OwnRun | undefined;
  readonly #folder: string;
  readonly #log: number;
  /** The newest entry of each block. */
  readonly #index = new Map<number, { readonly at: number; readonly length: number; readonly crc: number }>();
  #end = HEAD_BYTES;
  #isClosed = false;

  static create(folder: string, number: number, base: OwnRun | undefined): OwnRun {
    const run = new OwnRun(folder, number, base, 'wx+');
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(base?.number ?? 0);
    writeSync(run.#log, head, 0, HEAD_BYTES, 0);
    return run;
  }

  static open(folder: string, number: number, earlier: readonly OwnRun[]): OwnRun {
    const base = readFileSync(join(folder, `${number}.log`)).readUInt32LE();
    const run = new OwnRun(
      folder,
      number,
      earlier.find((one) => one.number === base),
      'r+',
    );
    if (base !== 0 && run.base === undefined) throw new Error(`run ${number} builds on run ${base}, which is gone`);
    run.#readIndex();
    return run;
  }

  private constructor(folder: string, number: number, base: OwnRun | undefined, flags: string) {
    this.#folder = folder;
    this.number = number;
    this.base = base;
    this.#log = openSync(join(folder, `${number}.log`), flags);
  }

  /** What the process before has left behind the last whole entry is cut off. */
  #readIndex(): void {
    const bytes = Buffer.alloc(fstatSync(this.#log).size);
    readSync(this.#log, bytes, 0, bytes.length, 0);
    while (this.#end + ENTRY_BYTES <= bytes.length) {
      const [block, length, crc] = [0, 4, 8].map((at) => bytes.readUInt32LE(this.#end + at)) as [
        number,
        number,
        number,
      ];
      const at = this.#end + ENTRY_BYTES;
      const content = bytes.subarray(at, at + length);
      if (content.length < length || crc32(content) !== crc) break;
      this.#index.set(block, { at, length, crc });
      this.#end = at + length;
    }
    ftruncateSync(this.#log, this.#end);
  }

  append(block: number, bytes: Uint8Array): void {
    const head = Buffer.alloc(ENTRY_BYTES);
    const crc = crc32(bytes);
    for (const [index, field] of [block, bytes.length, crc].entries()) head.writeUInt32LE(field, index * 4);
    writeSync(this.#log, head, 0, ENTRY_BYTES, this.#end);
    writeSync(this.#log, bytes, 0, bytes.length, this.#end + ENTRY_BYTES);
    this.#index.set(block, { at: this.#end + ENTRY_BYTES, length: bytes.length, crc });
    this.#end += ENTRY_BYTES + bytes.length;
  }

  /** Leaves what a process leaves that dies while it appends. */
  appendTorn(bytes: Uint8Array): void {
    writeSync(this.#log, bytes, 0, bytes.length, this.#end);
  }

  /** The stored bytes of a block: this run's own, or those of the run that it has inherited the block from. */
  load(block: number): Uint8Array {
    const found = this.#index.get(block);
    if (found === undefined) {
      if (this.base === undefined) throw new Error(`block ${block} is in none of the runs down to ${this.number}`);
      return this.base.load(block);
    }
    const bytes = Buffer.alloc(found.length);
    readSync(this.#log, bytes, 0, found.length, found.at);
    if (crc32(bytes) !== found.crc) throw new Error(`block ${block} of run ${this.number} is damaged`);
    return bytes;
  }

  /** @param isStillWanted - asked at the last moment: a process that has died writes nothing */
  async keepRecord(record: PipelineRecord, isStillWanted = () => true): Promise<boolean> {
    const bytes = await record.encode();
    if (!isStillWanted()) return false;
    const path = join(this.#folder, `${this.number}.record`);
    writeFileSync(`${path}.new`, bytes);
    renameSync(`${path}.new`, path);
    return true;
  }

  get hasRecord(): boolean {
    return existsSync(join(this.#folder, `${this.number}.record`));
  }

  record(): Promise<PipelineRecord> {
    return PipelineRecord.decode(readFileSync(join(this.#folder, `${this.number}.record`)));
  }

  close(): void {
    if (!this.#isClosed) closeSync(this.#log);
    this.#isClosed = true;
  }
}
