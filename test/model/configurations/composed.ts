/** Deletion, adoption, twins and pages in one history. */
import { composedModel } from '../composed.ts';
import type { ComposedConfiguration } from '../composed-state.ts';
import type { Model } from '../explore.ts';
import type { Named } from '../named.ts';
import type { Rule } from '../rules.ts';

function composed(
  name: string,
  about: string,
  takeOut: readonly (Rule | readonly Rule[])[],
  configuration: ComposedConfiguration,
  isSmall = true,
): Named {
  const build = (without: readonly Rule[]) => composedModel(configuration, without) as Model<unknown>;
  return { name, about, isSmall, takeOut: takeOut.map((rules) => [rules].flat()), build };
}

/** A backup, and a session on top of it that has stored a pack. */
const BEGUN = ['i1o0,', 'i2c1|i1o0,|1/i', 'i3o2,'];
const LOG = [...BEGUN, 'i4n', 'i5n', 'i6n'];
const PACKS = ['1/i', '3/d'];

export const COMPOSED: readonly Named[] = [
  composed(
    'adopter-below-the-floor',
    'A session is dead. Who adopts it sleeps while its own entries are deleted, and a pruner fences and condemns.',
    ['L1.two', 'L2.confirm', ['L12.spared', 'L12.checked'], 'L12.fence'],
    {
      log: LOG,
      checkpoints: [{ number: 5 }, { number: 6 }],
      packs: PACKS,
      roles: [
        { kind: 'writer', at: 3 },
        { kind: 'pruner', jobs: 2, fences: true, condemns: true },
      ],
    },
  ),
  composed(
    'owner-and-adopter',
    'The owner of that session is not dead, and its commit has no answer; another one adopts it, and the log is pruned.',
    ['L2.state', 'L13.named'],
    {
      log: [...BEGUN, 'i4n', 'i5n'],
      checkpoints: [{ number: 4 }, { number: 5 }],
      packs: PACKS,
      roles: [
        { kind: 'writer', at: 3, session: 3, own: ['3/d'], isLate: true },
        { kind: 'writer' },
        { kind: 'pruner', condemns: true },
      ],
    },
  ),
  composed(
    'twins-and-adopter',
    'Twins have one session; another one adopts it, and the log is pruned.',
    ['P5.wholeBytes'],
    {
      log: BEGUN,
      checkpoints: [{ number: 2 }, { number: 3 }],
      packs: PACKS,
      roles: [
        { kind: 'writer', session: 3, own: ['3/d'] },
        { kind: 'writer', session: 3, own: ['3/d'] },
        { kind: 'writer' },
        { kind: 'pruner' },
      ],
    },
  ),
  composed(
    'adopted-twice-below-the-floor',
    'Who adopts dies as well, and the next one adopts both, while the log is pruned and what nobody needs is condemned.',
    ['L12.all'],
    {
      log: [...BEGUN, 'i4n'],
      checkpoints: [{ number: 3 }, { number: 4 }],
      packs: PACKS,
      roles: [
        { kind: 'writer', crashes: 1 },
        { kind: 'pruner', jobs: 2, condemns: true },
      ],
    },
  ),
  composed(
    'remembered-below-the-floor',
    'A session is fenced, condemned, deleted and dropped, its entries too; its writer remembers it.',
    ['L12.listed'],
    {
      log: ['i1n', 'i2n'],
      checkpoints: [{ number: 1 }, { number: 2 }],
      packs: [],
      roles: [
        { kind: 'writer', crashes: 1 },
        { kind: 'pruner', jobs: 3, fences: true, condemns: true },
      ],
    },
  ),
  composed(
    'pages-and-adopter',
    'Rows lie in pages. The base of a session is forgotten and merged away, while another one adopts that session.',
    ['P3.pin', 'L9.base'],
    {
      log: BEGUN,
      checkpoints: [
        { number: 2, pages: ['2:2:i'] },
        { number: 3, pages: ['2:2:i'] },
      ],
      packs: PACKS,
      roles: [{ kind: 'writer' }, { kind: 'pruner', condemns: true, forgets: 1, makes: [['all']] }],
    },
  ),
  composed(
    'mergers-and-adopter',
    'Two hosts write checkpoints, each from pages of its own, one of them prunes, and a third one adopts a session.',
    ['L8.lineage', 'L8.candidate', 'L8.number'],
    {
      log: LOG,
      checkpoints: [
        { number: 4, pages: ['4:2:b'] },
        { number: 6, pages: ['6:2:b'] },
      ],
      packs: PACKS,
      roles: [
        { kind: 'writer' },
        { kind: 'pruner', jobs: 2 },
        { kind: 'pruner', at: 5, pages: ['2:2:i'], jobs: 0, makes: [['nothing', 'all']] },
      ],
    },
    false,
  ),
  composed(
    'twins-and-adopter-more',
    'The same, and one of the twins has no answer to its commit.',
    [],
    {
      log: BEGUN,
      checkpoints: [{ number: 2 }, { number: 3 }],
      packs: PACKS,
      roles: [
        { kind: 'writer', session: 3, own: ['3/d'], isLate: true },
        { kind: 'writer', session: 3, own: ['3/d'] },
        { kind: 'writer' },
        { kind: 'pruner' },
      ],
    },
    false,
  ),
  composed(
    'owner-and-adopter-more',
    'The same owner, while sessions are fenced as well, and the adopter dies once.',
    [],
    {
      log: [...BEGUN, 'i4n', 'i5n'],
      checkpoints: [{ number: 4 }, { number: 5 }],
      packs: PACKS,
      roles: [
        { kind: 'writer', at: 3, session: 3, own: ['3/d'], isLate: true },
        { kind: 'writer', crashes: 1 },
        { kind: 'pruner', condemns: true, fences: true },
      ],
    },
    false,
  ),
  composed(
    'pages-and-adopter-more',
    'Rows lie in pages that two hosts merge, one of which collects twice and forgets the base of a session that is adopted.',
    [],
    {
      log: LOG,
      checkpoints: [
        { number: 4, pages: ['4:2:b'] },
        { number: 6, pages: ['6:2:b'] },
      ],
      packs: PACKS,
      roles: [
        { kind: 'writer' },
        { kind: 'pruner', jobs: 2, condemns: true, forgets: 1, makes: [['all']] },
        { kind: 'pruner', at: 5, pages: ['2:2:i'], jobs: 0, makes: [['nothing']] },
      ],
    },
    false,
  ),
];
