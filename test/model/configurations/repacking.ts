/** Repackers beside everybody, and readers. */
import { type Named, repository } from '../named.ts';
import { place } from '../objects.ts';
import { FIRST, ONE_BACKUP, SISTERS_ONE_PACK, SPARSE, SPARSE_TWO_VOLUMES, scene } from '../scenes.ts';

export const REPACKING: readonly Named[] = [
  repository(
    'repack',
    'A sparse pack is moved, and moved again, while a writer builds on a base that may be forgotten.',
    ['P9.table', 'P9.straight', 'P9.marks'],
    scene(SPARSE, [
      { kind: 'writer', volumes: [0] },
      { kind: 'operator', rounds: 2 },
      { kind: 'repacker', packs: [0], rounds: 2 },
      { kind: 'collector', rounds: 1 },
    ]),
  ),
  repository(
    'repack-base',
    'A repacker moves what is live in a pack, and a running writer shares a forgotten base that lies there.',
    ['P3.pin'],
    scene(SISTERS_ONE_PACK, [
      { kind: 'writer', volumes: [0], shape: 'tree' },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [1], rounds: 2 },
      { kind: 'collector', rounds: 1 },
    ]),
  ),
  repository(
    'repack-base-more',
    'The same with a writer that crashes and comes back.',
    [],
    scene(SISTERS_ONE_PACK, [
      { kind: 'writer', volumes: [0], shape: 'tree', crashes: 1, rounds: 2 },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [1], rounds: 2 },
      { kind: 'collector', rounds: 1 },
    ]),
    false,
  ),
  repository(
    'repack-dedup',
    'A writer refers to a place of the moved pack that was dead when it was moved.',
    ['P9.location'],
    scene(SPARSE_TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [place(0, 0)] },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [0] },
      { kind: 'collector', rounds: 1 },
    ]),
  ),
  repository(
    'repack-adopted',
    'What an adopted run refers to is moved, or was dead when it was moved, in between.',
    ['P6.adoptDeep', 'P9.location'],
    scene(SPARSE_TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [place(0, 0), place(0, 1)], crashes: 1, rounds: 2 },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [0] },
      { kind: 'collector', rounds: 1, fences: true },
    ]),
    false,
  ),
  repository(
    'repack-fenced',
    'A slow repacker is fenced and its new packs collected; its collection is late.',
    ['P9.session'],
    scene(SPARSE, [
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [0], rounds: 2, late: true, crashes: 1 },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
  ),
  repository(
    'two-repackers',
    'Two repackers at one pack, a writer that dedups into it, a collector, a forgotten backup.',
    ['P9.marks'],
    scene(SPARSE_TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [place(0, 1)], shape: 'tree' },
      { kind: 'operator', rounds: 2 },
      { kind: 'repacker', packs: [0], rounds: 2 },
      { kind: 'repacker', packs: [0, 1], late: true },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
    false,
  ),
  repository(
    'two-repackers-few',
    'The same, smaller: one move each, and no collector beside them.',
    ['P9.location'],
    scene(SPARSE_TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [place(0, 0)], shape: 'tree' },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [0] },
      { kind: 'repacker', packs: [0, 1], late: true },
    ]),
    false,
  ),
  repository(
    'reader',
    'A reader without grace, while its backup is forgotten, collected and repacked twice.',
    ['P8.replay', 'P9.straight'],
    scene(SPARSE, [
      { kind: 'reader' },
      { kind: 'operator', rounds: 2 },
      { kind: 'repacker', packs: [0], rounds: 2 },
      { kind: 'collector', rounds: 1 },
    ]),
  ),
  repository(
    'reader-grace',
    'The same with grace: the reader is served to the end.',
    [],
    scene(
      SPARSE,
      [
        { kind: 'reader' },
        { kind: 'operator', rounds: 2 },
        { kind: 'repacker', packs: [0], rounds: 2 },
        { kind: 'collector', rounds: 2 },
      ],
      { grace: true },
    ),
  ),
  repository(
    'runs-repacked',
    'The same while packs are moved.',
    ['P9.table'],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 3, maxRuns: 1 },
      { kind: 'operator', rounds: 2 },
      { kind: 'repacker', packs: [0, 8, 12, 16], rounds: 2 },
      { kind: 'collector', rounds: 2 },
    ]),
    false,
  ),
  repository(
    'everything-few',
    'A writer that dedups and shares a tree, an operator, a repacker, a collector that fences, a reader without grace.',
    ['P8.replay'],
    scene(SPARSE_TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [place(0, 0)], shape: 'tree' },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'repacker', packs: [0] },
      { kind: 'collector', rounds: 2, fences: true },
      { kind: 'reader' },
    ]),
    false,
  ),
  repository(
    'everything',
    "Two writers that dedup into each other's backups and take over, an operator, a collector that fences, a repacker.",
    [],
    scene(SPARSE_TWO_VOLUMES, [
      { kind: 'writer', volumes: [0], dedup: [place(1, 1)], rounds: 2, crashes: 1, late: ['commit'] },
      { kind: 'writer', volumes: [1], dedup: [place(0, 0)], shape: 'tree', late: ['pack'] },
      { kind: 'operator', rounds: 2 },
      { kind: 'repacker', packs: [0, 1] },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
    false,
  ),
];
