import * as main from '../../../src/index.ts';
import { BLOCK, type World } from './misuse-world.ts';
import { bytes, coded, list, OfWorld, OPTIONAL, object, offset, options, text } from './wrong-values.ts';

/** Parameters that many calls have. */

const { boolean, number, text: words, callback: fn, signal, object: plain } = OPTIONAL;

export const SIGNAL = options({ signal });

const at = offset('offset', 0, ...coded('OUT_OF_RANGE', 2 ** 52, 17 * BLOCK));
const length = offset('length', 512, ...coded('OUT_OF_RANGE', 2 ** 52));
const into = bytes('into', () => new Uint8Array(512));
const from = bytes('from', () => new Uint8Array(512));

export const DEVICE_METHODS = {
  read: [at, into, SIGNAL],
  write: [at, from, SIGNAL],
  flush: [SIGNAL],
  close: [],
};
export const SYNC_METHODS = { readSync: [at, into], writeSync: [at, from], flushSync: [] };
export const ZERO_METHODS = { discard: [at, length, SIGNAL], writeZeroes: [at, length, SIGNAL] };
export const EXTENTS = { extents: [at, length, SIGNAL] };

const NO_KEYS = ['', 'a//b', '/a', 'a/', '..', 'a/../b', 'x'.repeat(2000), 'a\u0000b', '\ud800'];
const noText = text('key', 'a/key');
export const KEY = {
  ...noText,
  wrong: [
    ...noText.wrong.filter(({ value }) => value !== ''),
    ...text('key', '', ...coded('INVALID_KEY', ...NO_KEYS)).wrong.filter(({ code }) => code !== undefined),
  ],
};
const anyText = (name: string) => {
  const parameter = text(name, '');
  return { ...parameter, wrong: parameter.wrong.filter(({ value }) => value !== '') };
};

export const NO_RANGE = [null, 5, 'text', [], {}, { offset: '0', length: 1 }, { offset: 0 }, { offset: -1, length: 1 }];

export const TARGET_METHODS = {
  put: [KEY, bytes('body', () => new Uint8Array(3)), options({ createOnly: boolean, onSent: fn, signal })],
  get: [KEY, options({ range: NO_RANGE, ifTag: words, signal })],
  stat: [KEY, SIGNAL],
  list: [anyText('prefix'), options({ after: words.filter((each) => each !== ''), signal })],
  delete: [KEY, SIGNAL],
  deleteMany: [
    {
      ...list('keys', () => ['a/key'], [...coded('INVALID_KEY', '', '..', 'a//b')]),
      wrong: [
        ...list('keys', 0, []).wrong,
        ...[null, 5, {}].map((element) => ({ value: [element], names: ['key', 'keys'] })),
        ...['', '..', 'a//b'].map((element) => ({ value: [element], names: [], code: 'INVALID_KEY' as const })),
      ],
    },
    SIGNAL,
  ],
  storeTime: [SIGNAL],
  removeLeftovers: [options({ olderThanMs: number, dryRun: boolean, signal })],
  close: [],
};

export const device = (name: string) => object(name, () => new main.MemoryDevice(BLOCK));
export const target = (name: string) =>
  object(name, () => new main.MemoryTarget(), { ...new main.MemoryTarget() }, { put() {}, capabilities: null });
export const volume = (name: string) => object(name, (world: World) => world.volume, new main.MemoryDevice(BLOCK));
export const id = (name: string) =>
  text(name, (world: World) => world.backupId, ...coded('BACKUP_NOT_FOUND', 'no such backup'));
export const ids = list('ids', (world: World) => [world.backupId], [
  null,
  5,
  {},
  '',
  ...coded('BACKUP_NOT_FOUND', 'no such backup'),
]);

export const TUNING = {
  threads: number,
  compressionLevel: [...number.filter((level) => level !== -1), 99, -99],
  sealMemoryBytes: number,
  packBytes: number,
  parallelUploads: [...number, 0],
  cacheBytes: number,
  owner: words,
  workerUrl: [null, 5, '', {}, 'https://host/worker.js'],
};
export const NO_UNLOCK = [
  null,
  5,
  'passphrase',
  [],
  {},
  { passphrase: '' },
  { passphrase: 5 },
  { key: 'text' },
  { key: new Uint8Array(5) },
  { provider: {} },
  { key: new Uint8Array(32), passphrase: 'both' },
];
export const PROGRESS = { onProgress: fn, signal };
const transform = { name: 'transform', apply() {}, undo() {} };
/** Of a pipeline, and of the way back. */
export const PIPELINE = {
  transforms: [
    ...[null, 5, 'text', {}, new Map(), [null], [5], [[]], [{}]],
    ...[{ name: '' }, { name: 5 }, { apply: 5 }, { undo: undefined }].map((wrong) => [{ ...transform, ...wrong }]),
  ],
  concurrency: [...number, 0, 1025],
  retry: [
    ...plain,
    ...[0, '1', null].map((attempts) => ({ attempts })),
    ...number.flatMap((ms) => [{ baseDelayMs: ms }, { maxDelayMs: ms }]),
    ...fn.map((isRetryable) => ({ isRetryable })),
  ],
  ...PROGRESS,
};

/** What a pipeline has made of a volume of one block. */
export const pipelineRecord = await (async () => {
  await using volume = await main.CopyOnWriteVolume.open(new main.MemoryDevice(BLOCK), { blockSize: BLOCK });
  const snapshot = await volume.createSnapshot();
  return (await main.BackupPipeline.start(snapshot, { store() {} }).sweep().done).record;
})();

export const NO_BUDGET = [
  null,
  5,
  'text',
  [],
  new Map(),
  { nonsense: 1 },
  ...['gets', 'puts', 'uploadBytes', 'downloadBytes'].flatMap((each) => [{ [each]: -1 }, { [each]: '1' }]),
];
/** Of one backup, in a group too. */
const PART = {
  volume: words,
  base: [null, 5, {}, ''],
  metadata: [null, 5, 'text', new Map([['a', 'b']]), { a: 5 }],
  takeOver: boolean,
  sampleBlocks: number,
  ...PROGRESS,
};
export const BACKUP = { ...PART, budget: NO_BUDGET, outageMs: number };

/** Wrong parts of a group. */
export const PARTS = Object.entries({ ...PART, source: [null, 5, 'text', {}], budget: [undefined, {}], nonsense: [1] })
  .flatMap(([key, values]) => values.map((value) => [key, value] as const))
  .map(([key, value]) => new OfWorld((world: World) => [{ source: world.volume, volume: 'disk', [key]: value }], key));
