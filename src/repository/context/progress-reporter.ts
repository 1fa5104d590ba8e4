import { tell } from '../../common/tell.ts';
import { currentMeter } from '../../targets/decorators/request-meter.ts';
import { knownTotal, type Progress } from './progress.ts';

/** Tells how far an operation has got, phase by phase. */
export class ProgressTeller {
  readonly #onProgress: ((progress: Progress) => void) | undefined;
  #phase = '';
  #doneBytes = 0;
  #totalBytes: number | undefined;

  constructor(onProgress: ((progress: Progress) => void) | undefined) {
    this.#onProgress = onProgress;
  }

  /** A phase begins. @param totalBytes - of it, where that is known */
  begin(phase: string, totalBytes?: number): void {
    this.#phase = phase;
    this.#doneBytes = 0;
    this.#totalBytes = knownTotal(totalBytes);
    this.#tell();
  }

  advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#tell();
  }

  #tell(): void {
    const meter = currentMeter();
    tell('onProgress', this.#onProgress, {
      phase: this.#phase,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      transferredBytes: meter === undefined ? 0 : meter.uploadBytes + meter.downloadBytes,
      requests: meter?.requests ?? 0,
    });
  }
}
