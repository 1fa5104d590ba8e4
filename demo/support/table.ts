import type { Terminal } from './terminal.ts';

/** Prints rows of a label, a figure and a remark. */
export function printTable(terminal: Terminal, rows: readonly (readonly [string, string, string?])[]): void {
  const labelWidth = Math.max(...rows.map(([label]) => label.length));
  const figureWidth = Math.max(...rows.map(([, figure]) => figure.length));
  for (const [label, figure, remark = ''] of rows) {
    terminal.print(`  ${label.padEnd(labelWidth)}  ${figure.padStart(figureWidth)}  ${remark}`.trimEnd());
  }
}
