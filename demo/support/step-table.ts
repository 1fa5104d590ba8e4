import { bytes, count, percent } from './figures.ts';
import type { Terminal } from './terminal.ts';

/** What one step took. */
export interface StepCost {
  readonly title: string;
  readonly seconds: number;
  readonly uploadedBytes: number;
  readonly downloadedBytes: number;
  readonly requests: number;
  /** What a backup has read from the volume, in bytes. */
  readonly readBytes: number | undefined;
  /** How much a backup had to store, in bytes, without zeroes where those are known. */
  readonly contentBytes: number | undefined;
}

const HEAD = ['', 'read', 'up', 'down', 'requests', 's', 'sent', 'packed'];

/** Prints what each step took. `volumeBytes` is what the share that was sent is a share of. */
export function printSteps(terminal: Terminal, steps: readonly StepCost[], volumeBytes: number): void {
  const rows = [HEAD, ...steps.map((step) => rowOf(step, volumeBytes))];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  for (const [title = '', ...figures] of rows) {
    const line = figures.map((figure, column) => figure.padStart(widths[column + 1] ?? 0)).join('  ');
    terminal.print(`  ${title.padEnd(widths[0] ?? 0)}  ${line}`.trimEnd());
  }
}

function rowOf(step: StepCost, volumeBytes: number): string[] {
  const { title, seconds, uploadedBytes, downloadedBytes, requests, readBytes, contentBytes } = step;
  const isBackup = contentBytes !== undefined;
  return [
    title,
    readBytes === undefined ? '' : bytes(readBytes),
    uploadedBytes === 0 ? '' : bytes(uploadedBytes),
    downloadedBytes === 0 ? '' : bytes(downloadedBytes),
    count(requests),
    seconds.toFixed(seconds < 1 ? 3 : 1),
    isBackup ? percent(uploadedBytes, volumeBytes) : '',
    isBackup && uploadedBytes > 0 ? `${(contentBytes / uploadedBytes).toFixed(2)} : 1` : '',
  ];
}
