import { crc32 } from 'node:zlib';
import { decodeLeaf } from '../../../../src/repository/format/entry-table.ts';
import type { MapGeometry } from '../../../../src/repository/format/map-geometry.ts';
import { bytes, u32 } from './format-text.ts';

/** Reads a leaf with one block, which has this codec, as `docs/FORMAT.md`, section 7, has it. */
export function leafOf(codec: number, geometry: MapGeometry) {
  const pack = bytes(u32(1), u32(0), Buffer.alloc(16, 0xab));
  const place = bytes(0, 0, u32(8), u32(4096 + codec * 2 ** 24));
  const part = bytes(1, 0, pack, place);
  return decodeLeaf(Uint8Array.from(bytes(1, Buffer.alloc(32, 1), part, u32(crc32(part)))), 0, geometry);
}
