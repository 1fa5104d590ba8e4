import { writeBackups, writePrelude } from '../support/history.ts';
import type { Recipe } from '../support/recipe.ts';
import { KEY, PASSPHRASE, REMOVED_KEY } from '../support/secrets.ts';

/** A bit of everything in a long log: maps of all shapes, sessions that died, repacked packs, key slots that were removed. */

const TYPES = ['open', 'commit', 'abort', 'forget', 'collect', 'config', 'hold', 'release'];
const STATES = [
  'backups',
  'a hold',
  'a floor',
  'heads',
  'sessions',
  'sessions dated anew',
  'fenced',
  'fenced dated anew',
  'known',
  'condemned',
  'condemned sessions',
  'former relocations',
  'quarantined',
];

const HAS = [
  ...TYPES.map((type) => `entry of type ${type}`),
  ...[1, 2, 3, 4, 5, 6].map((kind) => `record of kind ${kind}`),
  ...['no tree', 'tree of level 0', 'tree of level 1', 'tree of level 2', 'run', 'run entry of zeroes'],
  ...['lost range', 'pack table', 'relocated record', 'record of kind 1, codec 0'],
  ...['open session dated anew', 'fenced session dated anew', 'collection dated anew', 'session that is gone'],
  'checkpoint',
  ...STATES.map((state) => `checkpoint with ${state}`),
];

export const plain: Recipe = {
  name: 'v1-plain',
  encryption: 'none',
  secrets: [],
  has: HAS,
  keepsReserve: true,
  async write(store) {
    await writePrelude(store, null);
    return writeBackups(store);
  },
};

export const encrypted: Recipe = {
  name: 'v1-encrypted',
  encryption: { key: KEY },
  secrets: [{ passphrase: PASSPHRASE }, { key: Buffer.from(KEY).toString('hex') }],
  removedKey: Buffer.from(REMOVED_KEY).toString('hex'),
  has: [
    ...HAS,
    'entry of type keys',
    'checkpoint with keySlots',
    'checkpoint with removedSlots',
    'slot of kind passphrase',
    'slot of kind key',
  ],
  async write(store) {
    await writePrelude(store, { passphrase: { passphrase: PASSPHRASE }, removed: { key: REMOVED_KEY } });
    return writeBackups(store);
  },
};
