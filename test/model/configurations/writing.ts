/** Writers among themselves: one writer a volume, unanswered requests, takeovers, groups. */
import type { Model } from '../explore.ts';
import { type Named, repository } from '../named.ts';
import { namesModel } from '../names.ts';
import { ONE_BACKUP, scene, TWO_VOLUMES } from '../scenes.ts';

export const WRITING: readonly Named[] = [
  repository(
    'one-volume',
    'Two writers of one volume; the first waits while it is busy, the second takes over and adopts.',
    ['P2.oneWriter', 'P6.fence', 'P4.acknowledged', 'P6.named'],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 2, late: ['pack'], mayAbort: true },
      { kind: 'writer', volumes: [0], rounds: 1, takeover: 'adopt', crashes: 1 },
    ]),
  ),
  repository(
    'takeovers',
    'Two writers of one volume that fence and adopt each other, with a collector that fences too.',
    ['P6.fence'],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 3, takeover: 'adopt', crashes: 1 },
      { kind: 'writer', volumes: [0], rounds: 2, takeover: 'adopt', crashes: 1, late: ['pack'] },
      { kind: 'operator' },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
    false,
  ),
  repository(
    'takeovers-few',
    'The same, smaller: no operator, and one crash.',
    ['P6.fence'],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], rounds: 2, takeover: 'adopt', crashes: 1 },
      { kind: 'writer', volumes: [0], rounds: 2, takeover: 'adopt' },
      { kind: 'collector', rounds: 2, fences: true },
    ]),
    false,
  ),
  repository(
    'no-answer',
    'Two writers whose entries go unanswered and land late, and who may be cancelled or crash.',
    ['P5.sameBytes', 'P5.compare', 'P5.order', 'P5.report'],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [0], late: ['open', 'commit'], mayCancel: true },
      { kind: 'writer', volumes: [1], late: ['commit'], crashes: 1, rounds: 2 },
    ]),
  ),
  repository(
    'no-answer-one-volume',
    'The same on one volume, with takeover: entries of a fenced session land late.',
    ['P5.compare', 'P6.fence'],
    scene(ONE_BACKUP, [
      { kind: 'writer', volumes: [0], late: ['open', 'commit', 'abort'], mayAbort: true, crashes: 1, rounds: 2 },
      { kind: 'writer', volumes: [0], late: ['open', 'commit'], takeover: 'adopt' },
    ]),
  ),
  repository(
    'group',
    'One session of two volumes beside a writer of one of them; they take each other over.',
    ['P12.together'],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [0, 1], rounds: 2, crashes: 1, takeover: 'fence', late: ['commit'] },
      { kind: 'writer', volumes: [1], rounds: 1, takeover: 'fence', late: ['commit'] },
    ]),
  ),
  repository(
    'group-more',
    'The same with more sessions and a forgotten backup.',
    [],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [0, 1], rounds: 2, crashes: 1, takeover: 'fence', late: ['commit'] },
      { kind: 'writer', volumes: [1], rounds: 2, takeover: 'fence', late: ['commit'] },
      { kind: 'operator' },
    ]),
    false,
  ),
  repository(
    'group-busy',
    'The same without takeover: whoever comes second waits.',
    ['P2.oneWriter'],
    scene(TWO_VOLUMES, [
      { kind: 'writer', volumes: [0, 1], rounds: 2, crashes: 1 },
      { kind: 'writer', volumes: [1] },
    ]),
  ),
  {
    name: 'names',
    about: 'One session filled by two incarnations with one memory.',
    isSmall: true,
    takeOut: [['names']],
    build: (without) => namesModel(3, without) as Model<unknown>,
  },
];
