import { constants, copyFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { CopyOnWriteVolume, FileDevice } from 'cow-cloud-backup';
import { compareFiles } from './compare.ts';
import { prepareImage } from './disk-image.ts';
import { bytes, count, megabytesPerSecond } from './figures.ts';
import type { Method } from './method.ts';
import { type BackupFigures, MethodShow } from './method-show.ts';
import { ProgressView } from './progress-view.ts';
import { RandomWriter } from './random-writer.ts';
import { type DemoParts, refuseUsedTarget } from './run-demo.ts';
import { printTable } from './table.ts';

const WRITES_AT_ONCE = 8;
/** How long the writer has been at it when the instant comes. */
const WRITES_BEFORE_MS = 500;
const GOOD = [36, 32] as const;
const FAINT = [244, 90] as const;

interface Figures extends BackupFigures {
  readonly size: number;
}

/** Backs up an image that is being written to, restores it and compares, and prints what happens. */
export class RoundTrip {
  readonly #method: Method;
  readonly #parts: DemoParts;
  readonly #view: ProgressView;
  readonly #referencePath: string;
  readonly #restoredPath: string;

  constructor(method: Method, parts: DemoParts) {
    this.#method = method;
    this.#parts = parts;
    this.#view = new ProgressView(parts.terminal);
    this.#referencePath = parts.workspace.path('reference.img');
    this.#restoredPath = parts.workspace.path('restored.img');
  }

  async run(): Promise<void> {
    const { terminal } = this.#parts;
    terminal.print(`\n  ${terminal.bold('cow-cloud-backup: the method, without a repository')}\n`);
    await refuseUsedTarget(this.#parts);
    const image = await prepareImage(this.#parts, this.#view);
    this.#say('disk', image.description);
    const figures = await this.#backUp(image.path).finally(() => this.#view.end());
    const restoreSeconds = await this.#restore();
    const { firstDifference, sha256 } = await compareFiles(this.#restoredPath, this.#referencePath, (done) =>
      this.#view.bar('comparing byte for byte', done, figures.size),
    );
    terminal.draw([]);
    this.#printFigures(figures, restoreSeconds, sha256);
    if (firstDifference >= 0) throw new Error(`the restored image differs from byte ${count(firstDifference)} on`);
    const mark = terminal.paint('✔', GOOD);
    terminal.print(`  ${mark} ${terminal.bold('restored image is byte for byte the image at the frozen instant')}\n`);
  }

  async #backUp(imagePath: string): Promise<Figures> {
    const { line, workspace, target } = this.#parts;
    await using device = await FileDevice.open(imagePath);
    await using volume = await CopyOnWriteVolume.open(device, {
      preserve: { spillPath: workspace.path('pre-images') },
    });
    await using writer = new RandomWriter(volume, {
      seed: line.seed,
      writesPerSecond: line.writesPerSecond,
      depth: WRITES_AT_ONCE,
      onError: workspace.fail,
    });
    this.#say('writes', `${line.writesPerSecond} a second, 512 B to 256 KiB, unaligned, seed ${line.seed}`);
    this.#say('target', line.to ?? 'a folder, which goes with the other temporary files');
    await delay(WRITES_BEFORE_MS, undefined, { signal: workspace.signal });

    const copyReference = () => copyFileSync(imagePath, this.#referencePath, constants.COPYFILE_FICLONE);
    const show = new MethodShow(this.#parts, this.#view, writer, copyReference);
    await this.#method.backUp(volume, target, show);
    return { size: volume.size, ...show.end() };
  }

  async #restore(): Promise<number> {
    const { workspace, target } = this.#parts;
    const begunMs = performance.now();
    await this.#method.restore(target, this.#restoredPath, {
      signal: workspace.signal,
      onProgress: ({ doneBytes, totalBytes = 0 }) => this.#view.bar('restoring', doneBytes, totalBytes),
    });
    return (performance.now() - begunMs) / 1000;
  }

  #printFigures(figures: Figures, restoreSeconds: number, sha256: string): void {
    const { tally, size, seconds, sweepSeconds, writes, writtenBytes } = figures;
    const { interceptedBlocks, interceptedBytes, sweptBlocks, sweptBytes, storedBytes, failures } = tally;
    const { terminal } = this.#parts;
    const objects = `${bytes(storedBytes)}, and the record`;
    terminal.print();
    printTable(terminal, [
      ['image', bytes(size)],
      ['intercepted', bytes(interceptedBytes), `${count(interceptedBlocks)} blocks`],
      ['swept', bytes(sweptBytes), `${count(sweptBlocks)} blocks at ${megabytesPerSecond(sweptBytes, sweepSeconds)}`],
      ['zero, not stored', bytes(size - storedBytes)],
      [
        'objects',
        count(interceptedBlocks + sweptBlocks),
        failures === 0 ? objects : `${objects}; ${count(failures)} of the puts failed first`,
      ],
      ['backed up in', `${seconds.toFixed(1)} s`, `${megabytesPerSecond(storedBytes, seconds)} stored`],
      ['writes meanwhile', count(writes), `${bytes(writtenBytes)} at ${megabytesPerSecond(writtenBytes, seconds)}`],
      [
        'restored in',
        `${restoreSeconds.toFixed(1)} s`,
        `${megabytesPerSecond(size, restoreSeconds)}, every block verified`,
      ],
    ]);
    terminal.print(`\n  ${terminal.paint(`SHA-256 ${sha256}`, FAINT)}`);
  }

  #say(what: string, text: string): void {
    this.#parts.terminal.print(`  ${what.padEnd(8)}${text}`);
  }
}
