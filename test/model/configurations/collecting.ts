/** Writers beside a collector: orphans, pins, dedup, adoption. */
import { type Named, repository } from '../named.ts';
import { place } from '../objects.ts';
import { FIRST, ONE_BACKUP, SECOND, SISTERS, scene, TWO_VOLUMES } from '../scenes.ts';

const block = (pack: number): number => place(pack, 1);

export const COLLECTING: readonly Named[] = [
  repository(
    'orphan',
    'A slow writer that may crash and come back, and a collector that fences.',
    [['P1.spared', 'P1.looked'], 'P7.named'],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 2, crashes: 1, late: ['pack'] },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
  ),
  repository(
    'sister',
    'A base is forgotten under a writer that shares its tree; a sister keeps the node but not the data.',
    ['P3.pin', 'P4.again', 'P7.whole'],
    scene(SISTERS, [
      { kind: 'writer', volumes: [0], shape: 'tree' },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'collector', rounds: 2 },
    ]),
  ),
  repository(
    'dedup',
    'A writer of volume 1 finds its block in a backup of volume 0 that is forgotten and collected.',
    ['P4.again', 'P7.again', 'P7.forEver'],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [block(0)] },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'collector', rounds: 1 },
    ]),
  ),
  repository(
    'dedup-long-ago',
    'Two backups forgotten and collected one after the other: the first one is long gone from the fold.',
    ['P4.known'],
    scene(
      TWO_VOLUMES,
      [
        { kind: 'writer', volumes: [2], dedup: [block(0)], late: ['pack'] },
        { kind: 'operator', rounds: 2 },
        { kind: 'collector', rounds: 2 },
      ],
      { volumes: 3 },
    ),
  ),
  repository(
    'dedup-listing',
    'A writer that sees the packs of another, whose session is fenced and collected.',
    ['P10.dedup'],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [0] },
      { kind: 'writer', volumes: [1], dedup: [place(8, 1), place(12, 1)] },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
  ),
  repository(
    'adoption',
    'A session is left behind, its base forgotten, and it is adopted by a session with another base.',
    ['P6.adoptSameBase'],
    scene(SISTERS, [
      { kind: 'writer', volumes: [0], shape: 'tree', rounds: 2, crashes: 1 },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
  ),
  repository(
    'adoption-dedup',
    'An adopted run refers to a block of another volume that was collected in between.',
    ['P6.adoptDeep'],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [1], dedup: [block(0)], rounds: 2, crashes: 1 },
      { kind: 'operator', backups: [FIRST] },
      { kind: 'collector', rounds: 2 },
    ]),
  ),
  repository(
    'adoption-long-ago',
    'A session whose packs were condemned and deleted, and the fold no longer says so.',
    ['P6.adoptListed', ['P7.adopted', 'P1.looked']],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [0], rounds: 2, crashes: 1 },
      { kind: 'operator', backups: [SECOND] },
      { kind: 'collector', rounds: 3, fences: true },
    ]),
  ),
  repository(
    'late-collection',
    'Collections that go unanswered and land late, with a writer that dedups and another that shares a tree.',
    ['P7.again', 'P5.compare'],
    scene(SISTERS, [
      { kind: 'writer', volumes: [0], shape: 'tree', dedup: [block(2)], crashes: 1, rounds: 2, late: ['commit'] },
      { kind: 'operator', rounds: 2 },
      { kind: 'collector', rounds: 2, late: true },
    ]),
    false,
  ),
  repository(
    'group-collected',
    'A group that shares both sisters, while both are forgotten and a collector fences.',
    ['P3.pin'],
    scene(SISTERS, [
      { kind: 'writer', volumes: [0, 1], shape: 'tree', crashes: 1, rounds: 2, late: ['pack'] },
      { kind: 'operator', rounds: 2 },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
    false,
  ),
  repository(
    'runs',
    'Runs over runs, folded into a root of its own when there are too many; old backups are forgotten.',
    [],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 3, maxRuns: 1 },
      { kind: 'operator', rounds: 2 },
      { kind: 'collector', rounds: 2 },
    ]),
  ),
  repository(
    'runs-more',
    'The same with a crash.',
    [],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 3, maxRuns: 1, crashes: 1 },
      { kind: 'operator', rounds: 2 },
      { kind: 'collector', rounds: 2 },
    ]),
    false,
  ),
  repository(
    'rescue',
    'Whoever dies wherever: a fresh writer can always take over and commit.',
    [],
    scene(
      ONE_BACKUP,
      [
        { kind: 'writer', volumes: [0], late: ['commit'], crashes: 1 },
        { kind: 'operator' },
        { kind: 'collector', fences: true },
        { kind: 'writer', volumes: [0], takeover: 'fence', rounds: 2 },
      ],
      { rescuer: 3 },
    ),
  ),
  repository(
    'rescue-more',
    'The same with packs and collections that land late, and adoption.',
    [],
    scene(
      ONE_BACKUP,
      [
        { kind: 'writer', volumes: [0], late: ['commit', 'pack'], crashes: 1 },
        { kind: 'operator' },
        { kind: 'collector', rounds: 1, fences: true, late: true },
        { kind: 'writer', volumes: [0], takeover: 'adopt', rounds: 2 },
      ],
      { rescuer: 3 },
    ),
    false,
  ),
];
