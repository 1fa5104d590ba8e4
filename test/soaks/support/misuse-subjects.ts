import { join } from 'node:path';
import * as main from '../../../src/index.ts';
import * as s3 from '../../../src/s3.ts';
import * as testing from '../../../src/testing.ts';
import {
  BACKUP,
  DEVICE_METHODS,
  EXTENTS,
  id,
  ids,
  NO_BUDGET,
  NO_UNLOCK,
  PARTS,
  PROGRESS,
  pipelineRecord,
  SIGNAL,
  SYNC_METHODS,
  TARGET_METHODS,
  volume,
  ZERO_METHODS,
} from './misuse-parameters.ts';
import { BLOCK, type World } from './misuse-world.ts';
import {
  choice,
  coded,
  fields,
  integer,
  list,
  OfWorld,
  OPTIONAL,
  object,
  options,
  other,
  type Parameter,
  text,
} from './wrong-values.ts';

const { boolean, number, text: words, callback: fn, signal, object: plain, date } = OPTIONAL;

/** An object that has public methods, and how each may be called. */
export interface Subject {
  readonly name: string;
  /** The exported types that it is one of: the API reports say which methods those have. */
  readonly is: readonly string[];
  /** One that is used and then thrown away; `close` ends it. */
  make(world: World): unknown;
  readonly methods: Readonly<Record<string, readonly Parameter[]>>;
  /** Which of the methods this one may lack. */
  readonly lacks?: readonly string[];
  /** Making it changes the repository. */
  readonly changes?: true;
  /** It is the world's own: closing it, or calling what has no parameters, would spoil the world for the others. */
  readonly isOfWorld?: true;
  /** Methods that it refuses with `READ_ONLY`, whatever their key. */
  readonly refuses?: readonly string[];
  /** After closing, calls of these are answered still. */
  readonly answersClosed?: readonly string[];
  /** Properties that show the live thing, and are meant to. */
  readonly live?: readonly string[];
  /** Methods without parameters that do what the sweep has no use for. */
  readonly ends?: readonly string[];
}

const NO_PART = ['deleteMany', 'storeTime', 'removeLeftovers'];
const DEVICE = { ...DEVICE_METHODS, ...SYNC_METHODS };
const MAYBE = { ...DEVICE, ...ZERO_METHODS, ...EXTENTS, stamp: [] };
const MAY_LACK = ['discard', 'writeZeroes', 'extents', 'stamp'];
const noBlock = [
  ...[undefined, null, '1', true, Number.NaN, 0.5, {}, [], 1n, Symbol('a symbol')],
  ...[{ firstBlock: 0 }, { firstBlock: 0, blockCount: '1' }, { firstBlock: -1, blockCount: 1 }, -1],
];
const beyond = coded('OUT_OF_RANGE', 99, { firstBlock: 5, blockCount: 60 });
const noPolicy = {
  ...Object.fromEntries(
    ['Last', 'Hourly', 'Daily', 'Weekly', 'Monthly', 'Yearly'].map((each) => [`keep${each}`, number]),
  ),
  keepWithin: number,
  timeZone: [null, 5, '', 'Nowhere/At/All'],
};
const backupOptions = options(BACKUP, { volume: 'disk' });

async function heldJob(world: World): Promise<main.BackupJob> {
  return world.repository.startBackup(world.volume, { volume: world.freshName() });
}

async function openPipeline(world: World): Promise<main.BackupPipeline> {
  const pipeline = main.BackupPipeline.start(await world.snapshot.share(), { store() {} });
  pipeline.done.catch(() => {}); // It ends with the world.
  return pipeline;
}

export const SUBJECTS: readonly Subject[] = [
  {
    name: 'MemoryDevice',
    is: ['MemoryDevice', 'BlockDevice', 'SyncAccess'],
    make: () => new main.MemoryDevice(BLOCK),
    methods: MAYBE,
    lacks: ['extents', 'stamp'],
    live: ['bytes'],
  },
  {
    name: 'syncDevice',
    is: ['SyncStoreDevice'],
    make: () => main.syncDevice(new main.MemoryDevice(BLOCK)),
    methods: DEVICE,
  },
  {
    name: 'pageDevice',
    is: [],
    make: () => main.pageDevice({ pageSize: 512, pageCount: 8, readPage() {}, writePage() {}, sync() {} }),
    methods: DEVICE,
  },
  {
    name: 'byteDevice',
    is: [],
    make: () => main.byteDevice(new main.MemoryDevice(BLOCK, { sectorSize: 512 })),
    methods: MAYBE,
    lacks: MAY_LACK,
  },
  {
    name: 'sliceDevice',
    is: [],
    make: () => main.sliceDevice(new main.MemoryDevice(2 * BLOCK), { offset: 0, length: BLOCK }),
    methods: { ...MAYBE, locate: [], locateBytes: [] },
    lacks: MAY_LACK,
    answersClosed: ['locateBytes'],
    ends: ['locate', 'locateBytes'], // Not of the type: arithmetic that the volume shares.
  },
  {
    name: 'FileDevice',
    is: ['FileDevice'],
    make: (world) => main.FileDevice.open(join(world.folder, world.freshName()), { create: { sizeBytes: BLOCK } }),
    methods: MAYBE,
    lacks: MAY_LACK,
  },
  {
    name: 'FaultyDevice',
    is: ['FaultyDevice'],
    make: () => new testing.FaultyDevice(new main.MemoryDevice(BLOCK)),
    methods: { ...MAYBE, callCount: [choice('operation', 'read', true)] },
    lacks: ['extents', 'stamp'],
    answersClosed: ['callCount'],
    live: ['calls'],
  },
  {
    name: 'CopyOnWriteVolume',
    isOfWorld: true,
    is: ['CopyOnWriteVolume', 'Volume', 'SyncVolumeAccess'],
    make: (world) => world.volume,
    methods: {
      ...MAYBE,
      createSnapshot: [options({ atInstant: fn, signal })],
      createSnapshotSync: [options({ atInstant: fn, signal })],
      changedSince: [
        object(
          'point',
          (world: World) => world.snapshot.point,
          { trackingId: 5, epoch: 1 },
          { trackingId: 'a', epoch: '1' },
        ),
      ],
    },
    lacks: MAY_LACK,
  },
  {
    name: 'VolumeSnapshot',
    changes: true,
    isOfWorld: true,
    is: ['VolumeSnapshot'],
    make: (world) => world.snapshot.share(),
    methods: {
      ...DEVICE_METHODS,
      write: [],
      ...EXTENTS,
      mark: [other('blocks', 0, ...noBlock, ...beyond), choice('to', 'inherited')],
      share: [],
    },
    answersClosed: ['mark', 'write'],
  },
  {
    name: 'BackupPipeline',
    changes: true,
    isOfWorld: true,
    is: ['BackupPipeline'],
    make: openPipeline,
    methods: {
      ask: [other('blocks', 0, ...noBlock.slice(1), ...beyond)],
      sweep: [],
      pause: [],
      resume: [],
      progress: [],
      record: [],
      abort: [],
      close: [],
    },
    answersClosed: ['ask', 'sweep', 'pause', 'resume', 'progress', 'record', 'abort'],
    live: ['snapshot', 'events', 'states', 'done'],
    ends: ['sweep', 'abort'],
  },
  {
    name: 'PipelineRecord',
    is: ['PipelineRecord'],
    make: () => pipelineRecord,
    methods: { encode: [] },
    live: ['states'],
  },
  {
    name: 'BlockStateMap',
    is: ['BlockStateMap', 'BlockStates'],
    make: () => new main.BlockStateMap(10),
    methods: {
      countsIn: [other('blocks', 0, ...noBlock, ...beyond)],
      get: [
        other('block', 0, undefined, null, '1', true, {}, [], 1n, ...coded('OUT_OF_RANGE', 10, -1, 0.5, Number.NaN)),
      ],
      set: [other('block', 0, ...noBlock, ...beyond), choice('to', 'zero')],
      ranges: [choice('states', 'zero')],
      diff: [object('previous', () => new main.BlockStateMap(10), new main.BlockStateMap(9))],
      clone: [],
      encode: [],
    },
  },
  {
    name: 'MemoryTarget',
    is: ['MemoryTarget', 'CloudTarget'],
    make: () => new main.MemoryTarget(),
    methods: TARGET_METHODS,
    lacks: ['removeLeftovers'],
  },
  {
    name: 'FileTarget',
    is: ['FileTarget'],
    make: (world) => new main.FileTarget(join(world.folder, 'target')),
    methods: TARGET_METHODS,
    lacks: ['deleteMany'],
  },
  ...[false, true].flatMap((isOverFile): Subject[] => {
    const inner = (world: World) =>
      isOverFile ? new main.FileTarget(join(world.folder, world.freshName())) : new main.MemoryTarget();
    const over = isOverFile ? ' over a folder' : '';
    const lacks = NO_PART;
    return [
      {
        name: `withRetries${over}`,
        is: ['ForwardingTarget', 'ClosableTarget'],
        make: (world) => main.withRetries(inner(world), { attempts: 1 }),
        methods: TARGET_METHODS,
        lacks,
      },
      {
        name: `withTracing${over}`,
        is: [],
        make: (world) => main.withTracing(inner(world)),
        methods: TARGET_METHODS,
        lacks,
      },
      {
        name: `withBandwidthLimit${over}`,
        is: [],
        make: (world) => main.withBandwidthLimit(inner(world), { uploadBytesPerSecond: 1e9 }),
        methods: TARGET_METHODS,
        lacks,
      },
      {
        name: `withConcurrencyLimit${over}`,
        is: [],
        make: (world) => main.withConcurrencyLimit(inner(world)),
        methods: TARGET_METHODS,
        lacks,
      },
      {
        name: `fanOut${over}`,
        is: ['FanOut'],
        make: (world) => main.fanOut(inner(world), [new main.MemoryTarget()]),
        methods: {
          ...TARGET_METHODS,
          synchronize: [
            options({
              deleteExtras: boolean,
              recopy: [null, 5, 'text', {}, [5], [null], ...coded('INVALID_KEY', ['..'])],
              concurrency: [...number, 0],
              ...PROGRESS,
            }),
          ],
        },
        lacks,
      },
      {
        name: `FaultyTarget${over}`,
        is: ['FaultyTarget'],
        make: (world) => new testing.FaultyTarget(inner(world), testing.scriptedFaults([])),
        methods: { ...TARGET_METHODS, callCount: [choice('operation', 'get', true)] },
        lacks,
        answersClosed: ['callCount'],
        live: ['calls'],
      },
    ];
  }),
  {
    name: 'readOnlyTarget',
    is: [],
    make: () => main.readOnlyTarget(new main.MemoryTarget()),
    // What would change the store is refused before anybody looks at a key.
    methods: TARGET_METHODS,
    refuses: ['put', 'delete', 'deleteMany'],
    lacks: NO_PART,
  },
  {
    name: 'S3Target',
    is: ['S3Target'],
    make: () =>
      new s3.S3Target({ client: { presignedUrl: async () => 'http://127.0.0.1:1/' } as never, bucket: 'bucket' }),
    methods: TARGET_METHODS,
    lacks: ['removeLeftovers'],
  },
  {
    name: 'BackupRepository',
    isOfWorld: true,
    is: ['BackupRepository'],
    make: (world) => world.repository,
    methods: {
      startBackup: [volume('source'), backupOptions],
      backup: [volume('source'), backupOptions],
      resumeBackup: [volume('volume'), backupOptions],
      startGroup: [
        list('parts', (world: World) => [{ source: world.volume, volume: 'disk' }], [
          null,
          5,
          new OfWorld(() => [{}], 'source'),
          ...PARTS,
        ]),
        options({ budget: NO_BUDGET, outageMs: number, signal }),
      ],
      listBackups: [options({ volume: words, limit: number, signal })],
      listVolumes: [SIGNAL],
      listSessions: [SIGNAL],
      endSession: [integer('seq', 1, 0, ...coded('SESSION_ENDED', 2 ** 52)), SIGNAL],
      findBackup: [text('shortId', (world: World) => world.backupId.slice(0, 8), 'no id', '*', 'abc'), SIGNAL],
      stats: [SIGNAL],
      latestBackup: [text('volume', 'disk'), options({ before: date, signal })],
      diff: [id('from'), id('to'), SIGNAL],
      openBackup: [id('id'), options({ liveVolume: plain, allowLost: boolean, cacheBytes: number, signal })],
      restore: [
        id('id'),
        object('onto', () => new main.MemoryDevice(16 * BLOCK)),
        options({
          ranges: [
            null,
            5,
            {},
            [null],
            [{}],
            [{ offset: '0', length: 1 }],
            ...coded('OUT_OF_RANGE', [{ offset: -1, length: 1 }]),
          ],
          deviceHolds: [null, 5, {}, ''],
          resume: boolean,
          liveVolume: plain,
          allowLost: boolean,
          verifyWrites: boolean,
          budget: NO_BUDGET,
          ...PROGRESS,
        }),
      ],
      restoreToFile: [
        id('id'),
        text('path', (world: World) => join(world.folder, world.freshName())),
        options({ overwrite: boolean, allowLost: boolean, verifyWrites: boolean, budget: NO_BUDGET, ...PROGRESS }),
      ],
      estimate: [
        object(
          'work',
          () => ({ prune: true }),
          { prune: true, nonsense: 1 },
          { prune: 1 },
          { prune: true, restore: 'both' },
          { backup: null },
          new OfWorld(() => ({ backup: {} }), 'source'),
          { restore: 5 },
          new OfWorld((world: World) => ({ backup: { source: world.volume } }), 'volume'),
          new OfWorld((world: World) => ({ backup: { source: world.volume, volume: 'disk', base: 'none' } }), 'base'),
          new OfWorld((world: World) => ({ backup: { source: world.device, volume: 'disk' } }), 'source'),
        ),
        SIGNAL,
      ],
      forget: [ids, SIGNAL],
      hold: [ids, options({ reason: [null, 5, {}], signal })],
      release: [ids, SIGNAL],
      applyRetention: [
        fields('policy', noPolicy, { keepLast: 1 }),
        options(
          { volume: words, allVolumes: [...boolean, true], dryRun: boolean, signal },
          { volume: 'disk', dryRun: true },
        ),
      ],
      verify: [
        options(
          {
            depth: [undefined, null, 'nonsense', 5],
            fraction: [null, '1', -1, 2, Number.NaN],
            maxBytes: number,
            backups: [null, 5, {}, [5]],
            quarantine: boolean,
            budget: NO_BUDGET,
            ...PROGRESS,
          },
          { depth: 'structure' },
        ),
      ],
      prune: [
        options({
          dryRun: boolean,
          graceMs: number,
          fenceAfterMs: number,
          keepFencedMs: number,
          repackBelow: [null, '1', -1, 2, Number.NaN],
          maxRepackBytes: number,
          minRepackGainBytes: number,
          packBytes: number,
          reserveBytes: number,
          checkLocks: boolean,
          budget: NO_BUDGET,
          ...PROGRESS,
        }),
      ],
      close: [options({ jobs: [null, 5, 'nonsense', {}, true] })],
    },
  },
  {
    name: 'KeySlots',
    isOfWorld: true,
    is: ['KeySlots'],
    make: (world) => world.repository.keys,
    methods: {
      list: [SIGNAL],
      add: [object('unlock', () => ({ key: new Uint8Array(32) }), ...NO_UNLOCK), SIGNAL],
      remove: [text('id', 'no slot', ...coded('KEY_SLOT_NOT_FOUND', 'other slot')), SIGNAL],
    },
  },
  {
    name: 'OpenedBackup',
    isOfWorld: true,
    is: ['OpenedBackup'],
    make: (world) => world.repository.openBackup(world.backupId),
    methods: { ...DEVICE_METHODS, write: [], ...EXTENTS },
    answersClosed: ['write'],
  },
  {
    name: 'an OpenedBackup that is under way',
    changes: true,
    isOfWorld: true,
    is: [],
    make: async (world) => {
      const job = await heldJob(world);
      return world.repository.openBackup(job.id, { liveVolume: world.volume });
    },
    methods: { ...DEVICE_METHODS, write: [], ...EXTENTS },
    lacks: ['extents'],
    answersClosed: ['write'],
  },
  {
    name: 'BackupJob',
    changes: true,
    isOfWorld: true,
    is: ['BackupJob'],
    make: heldJob,
    methods: {
      watch: [options({ intervalMs: number, signal })],
      progress: [],
      pause: [],
      resume: [],
      sweep: [],
      suspend: [],
      cancel: [],
      close: [],
    },
    answersClosed: ['watch', 'progress', 'pause', 'resume', 'sweep', 'suspend', 'cancel'],
    ends: ['sweep', 'suspend', 'cancel'],
  },
];
