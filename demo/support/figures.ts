/** Numbers as people read them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

export function bytes(value: number): string {
  const power = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${power === 0 || Number.isInteger(scaled) ? scaled : scaled.toFixed(1)} ${UNITS[power]}`;
}

export function megabytesPerSecond(value: number, seconds: number): string {
  return `${(seconds > 0 ? value / 1e6 / seconds : 0).toFixed(1)} MB/s`;
}

/** A share of a whole that never says 100 before it is. */
export function percent(part: number, whole: number): string {
  return `${whole === 0 ? 100 : Math.floor((part / whole) * 100)} %`;
}
