import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as main from '../../../src/index.ts';
import * as s3 from '../../../src/s3.ts';
import * as testing from '../../../src/testing.ts';
import {
  bytes,
  callback,
  choice,
  integer,
  list,
  OPTIONAL,
  object,
  options,
  type Parameter,
  text,
} from './wrong-values.ts';

const { boolean, number, text: words, callback: fn, signal, object: plain, date } = OPTIONAL;
const BLOCK = 4096;

/** What the calls work on, and what none of them may change. */
export class World {
  readonly folder: string;
  readonly device: main.MemoryDevice;
  readonly target: main.MemoryTarget;
  readonly volume: main.CopyOnWriteVolume & main.SyncVolumeAccess;
  readonly snapshot: main.VolumeSnapshot;
  readonly repository: main.BackupRepository;
  readonly backupId: string;

  #files = 0;

  private constructor(
    folder: string,
    device: main.MemoryDevice,
    target: main.MemoryTarget,
    volume: main.CopyOnWriteVolume & main.SyncVolumeAccess,
    snapshot: main.VolumeSnapshot,
    repository: main.BackupRepository,
    backupId: string,
  ) {
    this.folder = folder;
    this.device = device;
    this.target = target;
    this.device = device;
    this.target = target;
    this.volume = volume;
    this.snapshot = snapshot;
    this.repository = repository;
    this.backupId = backupId;
  }

  static async open(): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), 'cow-misuse-'));
    const device = new main.MemoryDevice(new Uint8Array(16 * BLOCK).map((_, at) => at % 251));
    const target = new main.MemoryTarget();
    const volume = await main.CopyOnWriteVolume.open(device, { blockSize: BLOCK });
    const repository = await main.BackupRepository.create(target, {
      encryption: { passphrase: 'a passphrase of the misuse test' },
      threads: 0,
    });
    const { id } = await repository.backup(volume, { volume: 'disk' });
    const snapshot = await volume.createSnapshot();
    return new World(folder, device, target, volume, snapshot, repository, id);
  }

  /** Of a file that is not there yet. */
  freshName(): string {
    return `file-${this.#files++}`;
  }

  /** Everything that misuse must leave as it is. */
  async fingerprint(): Promise<string> {
    const objects: string[] = [];
    for await (const { key } of this.target.list('')) {
      objects.push(`${key} ${Buffer.from(await this.target.get(key)).toString('base64')}`);
    }
    const states = Object.entries(this.snapshot.states.counts).join();
    const snapshots = this.volume.snapshots.length;
    return [Buffer.from(this.device.bytes).toString('base64'), states, snapshots, ...objects.sort()].join('\n');
  }

  async close(): Promise<void> {
    await this.repository.close();
    await this.volume.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** An object that has public methods, and how each may be called. */
export interface Subject {
  readonly name: string;
  /** One that is used and then thrown away; `close` ends it. */
  make(world: World): unknown;
  /** By method; `undefined` for those that nobody can call wrongly. */
  readonly methods: Readonly<Record<string, readonly Parameter[] | undefined>>;
  /** After closing, calls of these are answered still. */
  readonly answersClosed?: readonly string[];
}

/** An exported function or class: how it is called or made. */
export interface Entry {
  readonly name: string;
  readonly call: (...args: never[]) => unknown;
  readonly parameters: readonly Parameter[];
}

const SIGNAL = options({ signal });
const at = integer(0, 2 ** 60, 17 * BLOCK);
const sector = bytes(() => new Uint8Array(512));
const length = integer(512, 2 ** 60);
const noRange = [null, 5, 'text', [], {}, { offset: '0', length: 1 }, { offset: 0 }, { offset: -1, length: 1 }];

const DEVICE_METHODS = {
  read: [at, sector, SIGNAL],
  write: [at, sector, SIGNAL],
  flush: [SIGNAL],
  close: undefined,
};
const SYNC_METHODS = { readSync: [at, sector], writeSync: [at, sector], flushSync: undefined };
const ZERO_METHODS = { discard: [at, length, SIGNAL], writeZeroes: [at, length, SIGNAL] };

const KEY = text('a/key', 'a//b', '/a', 'a/', '..', 'a/../b', 'x'.repeat(2000), 'a\u0000b', '\ud800');
const TARGET_METHODS = {
  put: [KEY, bytes(() => new Uint8Array(3)), options({ createOnly: boolean, signal })],
  get: [KEY, options({ range: noRange, signal })],
  stat: [KEY, SIGNAL],
  list: [text('', 5n), options({ after: words.filter((each) => each !== ''), signal })].map((each, index) =>
    index === 0 ? { ...each, wrong: each.wrong.filter((value) => value !== '') } : each,
  ),
  delete: [KEY, SIGNAL],
  deleteMany: [list(() => ['a/key'], [null, 5, {}, '', '..', 'a//b']), SIGNAL],
  storeTime: [SIGNAL],
  removeLeftovers: [options({ olderThanMs: number, dryRun: boolean, signal })],
  synchronize: [options({ onProgress: fn, signal })],
  close: undefined,
};

const device = object((world: World) => world.device);
const target = object(() => new main.MemoryTarget());
const source = object((world: World) => world.volume);
const id = text((world: World) => world.backupId, 'no such backup');
const ids = list((world: World) => [world.backupId], [null, 5, {}, '', 'no such backup']);
const TUNING = {
  threads: number,
  compressionLevel: [...number, 99],
  sealMemoryBytes: number,
  packBytes: number,
  parallelUploads: [...number, 0],
  cacheBytes: number,
  owner: words,
  workerUrl: [null, 5, '', {}, 'https://host/worker.js'],
};
const UNLOCK = [
  null,
  5,
  'passphrase',
  [],
  {},
  { passphrase: '' },
  { passphrase: 5 },
  { key: 'text' },
  { key: new Uint8Array(5) },
];
const PROGRESS = { onProgress: fn, signal };
const BUDGET = [null, 5, 'text', [], new Map(), { nonsense: 1 }, { maxRequests: -1 }];
const BACKUP = {
  volume: words,
  base: [null, 5, {}, ''],
  metadata: [null, 5, 'text', new Map([['a', 'b']]), { a: 5 }],
  budget: BUDGET,
};
const BACKUP_MORE = {
  takeOver: boolean,
  sampleBlocks: number,
  outageMs: number.filter((each) => each !== Number.POSITIVE_INFINITY),
  ...PROGRESS,
};

export const SUBJECTS: readonly Subject[] = [
  {
    name: 'MemoryDevice',
    make: () => new main.MemoryDevice(BLOCK),
    methods: { ...DEVICE_METHODS, ...SYNC_METHODS, ...ZERO_METHODS },
  },
  {
    name: 'SyncStoreDevice',
    make: () => main.syncDevice(new main.MemoryDevice(BLOCK)),
    methods: { ...DEVICE_METHODS, ...SYNC_METHODS },
  },
  {
    name: 'byteDevice',
    make: () => main.byteDevice(new main.MemoryDevice(BLOCK, { sectorSize: 512 })),
    methods: { ...DEVICE_METHODS, ...SYNC_METHODS, ...ZERO_METHODS },
  },
  {
    name: 'sliceDevice',
    make: () => main.sliceDevice(new main.MemoryDevice(2 * BLOCK), { offset: 0, length: BLOCK }),
    methods: { ...DEVICE_METHODS, ...SYNC_METHODS, ...ZERO_METHODS, place: undefined, placeOf: undefined },
  },
  {
    name: 'FileDevice',
    make: (world) => main.FileDevice.open(join(world.folder, world.freshName()), { create: { sizeBytes: BLOCK } }),
    methods: { ...DEVICE_METHODS, ...SYNC_METHODS, ...ZERO_METHODS, extents: [at, length, SIGNAL] },
  },
  {
    name: 'FaultyDevice',
    make: () => new testing.FaultyDevice(new main.MemoryDevice(BLOCK)),
    methods: { ...DEVICE_METHODS, ...SYNC_METHODS, ...ZERO_METHODS, callCount: undefined },
    answersClosed: ['callCount'],
  },
  {
    name: 'CopyOnWriteVolume',
    make: (world) => world.volume,
    methods: {
      ...DEVICE_METHODS,
      ...SYNC_METHODS,
      ...ZERO_METHODS,
      extents: [at, length, SIGNAL],
      createSnapshot: [options({ atInstant: fn, signal })],
      createSnapshotSync: [options({ atInstant: fn, signal })],
      changedSince: [
        object((world: World) => world.snapshot.point, { trackingId: 5, epoch: 1 }, { trackingId: 'a', epoch: '1' }),
      ],
    },
  },
  {
    name: 'VolumeSnapshot',
    make: (world) => world.snapshot,
    methods: {
      read: [at, sector, SIGNAL],
      write: undefined,
      flush: [SIGNAL],
      extents: [at, length, SIGNAL],
      mark: [
        integer(0, { firstBlock: 0 }, { firstBlock: 0, blockCount: '1' }, { firstBlock: -1, blockCount: 1 }, 99),
        choice('inherited'),
      ],
      share: undefined,
      close: undefined,
    },
    answersClosed: ['mark', 'write'],
  },
  {
    name: 'BlockStateMap',
    make: () => new main.BlockStateMap(10),
    methods: {
      get: [integer(0, 10, 2 ** 53)],
      set: [integer(0, 10, { firstBlock: 5, blockCount: 6 }, { firstBlock: 0 }), choice('zero')],
      ranges: [choice('zero')].map((each) => ({ ...each, wrong: each.wrong })),
      diff: [object(() => new main.BlockStateMap(10), new main.BlockStateMap(9))],
      clone: undefined,
      encode: undefined,
    },
  },
  { name: 'MemoryTarget', make: () => new main.MemoryTarget(), methods: TARGET_METHODS },
  { name: 'FileTarget', make: (world) => new main.FileTarget(join(world.folder, 'target')), methods: TARGET_METHODS },
  {
    name: 'withRetries',
    make: () => main.withRetries(new main.MemoryTarget(), { attempts: 1 }),
    methods: TARGET_METHODS,
  },
  { name: 'withTracing', make: () => main.withTracing(new main.MemoryTarget()), methods: TARGET_METHODS },
  {
    name: 'withBandwidthLimit',
    make: () => main.withBandwidthLimit(new main.MemoryTarget(), { uploadBytesPerSecond: 1e9 }),
    methods: TARGET_METHODS,
  },
  {
    name: 'withConcurrencyLimit',
    make: () => main.withConcurrencyLimit(new main.MemoryTarget()),
    methods: TARGET_METHODS,
  },
  { name: 'readOnlyTarget', make: () => main.readOnlyTarget(new main.MemoryTarget()), methods: TARGET_METHODS },
  {
    name: 'fanOut',
    make: () => main.fanOut(new main.MemoryTarget(), [new main.MemoryTarget()]),
    methods: TARGET_METHODS,
  },
  {
    name: 'FaultyTarget',
    make: () => new testing.FaultyTarget(new main.MemoryTarget(), testing.scriptedFaults([])),
    methods: { ...TARGET_METHODS, callCount: undefined },
    answersClosed: ['callCount'],
  },
  {
    name: 'S3Target',
    make: () =>
      new s3.S3Target({ client: { presignedUrl: async () => 'http://127.0.0.1:1/' } as never, bucket: 'bucket' }),
    methods: TARGET_METHODS,
  },
  {
    name: 'BackupRepository',
    make: (world) => world.repository,
    methods: {
      startBackup: [source, options({ ...BACKUP, ...BACKUP_MORE }, { volume: 'disk' })],
      backup: [source, options({ ...BACKUP, ...BACKUP_MORE }, { volume: 'disk' })],
      resumeBackup: undefined,
      startGroup: [
        list((world: World) => [{ source: world.volume, volume: 'disk' }], [null, 5, {}]),
        options({ budget: BUDGET, signal }),
      ],
      listBackups: [options({ volume: words, limit: number, signal })],
      listVolumes: [SIGNAL],
      listSessions: [SIGNAL],
      endSession: [integer(1, 2 ** 60), SIGNAL],
      findBackup: [text('abcd', 'no id', '*'), SIGNAL],
      stats: [SIGNAL],
      latestBackup: [text('disk'), options({ before: date, signal })],
      diff: [id, id, SIGNAL],
      openBackup: [id, options({ survivor: plain, allowLost: boolean, cacheBytes: number, signal })],
      restore: [
        id,
        object(() => new main.MemoryDevice(16 * BLOCK)),
        options({
          ranges: [null, 5, {}, [null], [{}], [{ offset: '0', length: 1 }], [{ offset: -1, length: 1 }]],
          deviceHolds: [null, 5, {}, ''],
          resume: boolean,
          survivor: plain,
          allowLost: boolean,
          verifyWrites: boolean,
          budget: BUDGET,
          ...PROGRESS,
        }),
      ],
      restoreToFile: [id, text('restored'), options({ overwrite: boolean, verifyWrites: boolean, ...PROGRESS })],
      estimate: [object(() => ({ prune: true }), { nonsense: 1 }, { backup: null }, { restore: 5 }), SIGNAL],
      forget: [ids, SIGNAL],
      hold: [ids, options({ reason: [null, 5, {}], signal })],
      release: [ids, SIGNAL],
      applyRetention: [
        object(
          () => ({ keepLast: 1 }),
          { keepLats: 1 },
          { keepLast: '1' },
          { keepLast: -1 },
          { timeZone: 'Nowhere/At/All' },
        ),
        options({ volume: words, allVolumes: boolean, dryRun: boolean, signal }, { volume: 'disk', dryRun: true }),
      ],
      verify: [
        options(
          {
            depth: [undefined, null, 'nonsense', 5],
            fraction: [null, '1', -1, 2, Number.NaN],
            maxBytes: number,
            backups: [null, 5, {}, [5]],
            quarantine: boolean,
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
          checkLocks: boolean,
          ...PROGRESS,
        }),
      ],
      close: undefined,
    },
  },
  {
    name: 'KeySlots',
    make: (world) => world.repository.keys,
    methods: {
      list: [SIGNAL],
      add: [object(() => ({ passphrase: 'another' }), ...UNLOCK), SIGNAL],
      remove: [text('no slot'), SIGNAL],
    },
  },
  {
    name: 'BackupImage',
    make: (world) => world.repository.openBackup(world.backupId),
    methods: {
      read: [at, sector, SIGNAL],
      write: undefined,
      flush: [SIGNAL],
      extents: [at, length, SIGNAL],
      close: undefined,
    },
    answersClosed: ['write'],
  },
];

/** Right arguments would do too much to these: only wrong ones are given. */
export const FUNCTIONS: readonly Entry[] = [
  { name: 'BackupError', call: (code, message, of) => new main.BackupError(code, message, of), parameters: [] },
  {
    name: 'BackupRepository.create',
    call: main.BackupRepository.create,
    parameters: [
      target,
      options({ encryption: ['nothing', ...UNLOCK], singleWriter: boolean, signal, ...TUNING }, { encryption: 'none' }),
    ],
  },
  {
    name: 'BackupRepository.open',
    call: main.BackupRepository.open,
    parameters: [
      target,
      options({
        unlock: UNLOCK,
        readOnly: boolean,
        singleWriter: boolean,
        createIfMissing: [null, 5, 'none', [], {}, { encryption: 'nothing' }, { encryption: 'none', nonsense: 1 }],
        remembered: [null, 5, '{}', {}, [], new Map(), { seq: 1 }],
        signal,
        ...TUNING,
      }),
    ],
  },
  {
    name: 'BlockStateMap',
    call: (count, initial) => new main.BlockStateMap(count, initial),
    parameters: [integer(4, 2 ** 40), choice('zero')].map((each, index) =>
      index === 0 ? each : { ...each, wrong: each.wrong.slice(1) },
    ),
  },
  {
    name: 'BlockStateMap.decode',
    call: main.BlockStateMap.decode,
    parameters: [bytes(() => new main.BlockStateMap(4).encode()), options({ maxBlocks: number })],
  },
  {
    name: 'CopyOnWriteVolume.open',
    call: main.CopyOnWriteVolume.open,
    parameters: [
      object(() => new main.MemoryDevice(BLOCK)),
      options({
        blockSize: [...number, 5000, 1024, 2 ** 30],
        name: [null, 5, {}],
        closeDevice: boolean,
        preserve: [
          ...plain,
          ...number.map((memoryBytes) => ({ memoryBytes })),
          ...number.map((spillBytes) => ({ spillBytes })),
          ...number.map((deadlineMs) => ({ deadlineMs })),
          { spillPath: 5 },
          { spillPath: '' },
          { spillDevice: {} },
          { verifySpill: 1 },
          { onFailure: 'panic' },
        ],
      }),
    ],
  },
  {
    name: 'CopyOnWriteVolume.createSnapshots',
    call: main.CopyOnWriteVolume.createSnapshots,
    parameters: [list((world: World) => [world.volume]), options({ atInstant: fn, signal })],
  },
  {
    name: 'FileDevice.open',
    call: main.FileDevice.open,
    parameters: [
      text((world: World) => join(world.folder, 'a-device')),
      options({
        readOnly: boolean,
        shared: boolean,
        create: [null, 5, {}, { sizeBytes: '1' }, { sizeBytes: -1 }, { sizeBytes: 1, nonsense: 1 }],
      }),
    ],
  },
  {
    name: 'FileTarget',
    call: (folder, of) => new main.FileTarget(folder, of),
    parameters: [
      text((world: World) => join(world.folder, 'another')),
      options({ createFolder: boolean, fileMode: number, directoryMode: number }),
    ],
  },
  {
    name: 'ForwardingTarget',
    call: (inner, what) => new (class extends main.ForwardingTarget {})(inner, what),
    parameters: [target],
  },
  {
    name: 'MemoryDevice',
    call: (size, of) => new main.MemoryDevice(size, of),
    parameters: [integer(512, 2 ** 52), options({ sectorSize: number })],
  },
  {
    name: 'MemoryTarget',
    call: (of) => new main.MemoryTarget(of),
    parameters: [options({ createOnly: boolean, now: fn })],
  },
  { name: 'SyncStoreDevice', call: (store) => new main.SyncStoreDevice(store), parameters: [device] },
  {
    name: 'VolumeSnapshot',
    call: (...args) => new (main.VolumeSnapshot as unknown as new (...of: never[]) => unknown)(...args),
    parameters: [],
  },
  { name: 'checkKey', call: main.checkKey, parameters: [KEY] },
  { name: 'isKey', call: main.isKey, parameters: [] },
  {
    name: 'formatPosition',
    call: main.formatPosition,
    parameters: [object((world: World) => world.repository.position)],
  },
  {
    name: 'parsePosition',
    call: main.parsePosition,
    parameters: [text((world: World) => main.formatPosition(world.repository.position), 'no position')],
  },
  { name: 'abortable', call: main.abortable, parameters: [object(() => Promise.resolve())] },
  { name: 'byteDevice', call: main.byteDevice, parameters: [device] },
  {
    name: 'deleteAll',
    call: main.deleteAll,
    parameters: [
      target,
      { ...list(() => ['a/key']), wrong: [undefined, null, 5, 'text', {}, true, [null], [5]] },
      options({ concurrency: [...number, 0], batchSize: number, signal }),
    ],
  },
  { name: 'fanOut', call: main.fanOut, parameters: [target, list(() => [new main.MemoryTarget()]), options({})] },
  {
    name: 'pageDevice',
    call: main.pageDevice,
    parameters: [object(() => ({ pageSize: 1, pageCount: 1, readPage() {}, writePage() {}, sync() {} }))],
  },
  { name: 'readOnlyTarget', call: main.readOnlyTarget, parameters: [target] },
  {
    name: 'sliceDevice',
    call: main.sliceDevice,
    parameters: [device, object(() => ({ offset: 0, length: 512 }), ...noRange)],
  },
  { name: 'syncDevice', call: main.syncDevice, parameters: [device] },
  {
    name: 'withBandwidthLimit',
    call: main.withBandwidthLimit,
    parameters: [
      target,
      options({ uploadBytesPerSecond: number, downloadBytesPerSecond: number }, { uploadBytesPerSecond: 1000 }),
    ],
  },
  { name: 'withConcurrencyLimit', call: main.withConcurrencyLimit, parameters: [target, options({})] },
  { name: 'withRetries', call: main.withRetries, parameters: [target, options({ attempts: number })] },
  { name: 'withTracing', call: main.withTracing, parameters: [target, options({ name: [null, 5, {}] })] },
  { name: 'S3RequestError', call: () => s3.S3RequestError, parameters: [] },
  {
    name: 'S3Target',
    call: (of) => new s3.S3Target(of),
    parameters: [
      options(
        {
          client: plain,
          bucket: words,
          prefix: [null, 5, {}],
          requestTimeoutMs: number,
          checksums: boolean,
          createOnly: boolean,
          deleteVersions: boolean,
        },
        { client: { presignedUrl: async () => '' }, bucket: 'bucket' },
      ),
    ],
  },
  { name: 'ConformanceError', call: (message) => new testing.ConformanceError(message), parameters: [] },
  { name: 'FaultyDevice', call: (inner, plan, of) => new testing.FaultyDevice(inner, plan, of), parameters: [device] },
  {
    name: 'FaultyTarget',
    call: (inner, plan, of) => new testing.FaultyTarget(inner, plan, of),
    parameters: [target, object(() => testing.scriptedFaults([])), options({})],
  },
  {
    name: 'deviceConformance',
    call: testing.deviceConformance,
    parameters: [options({ open: fn }, { open: async () => new main.MemoryDevice(2 ** 20) })],
  },
  {
    name: 'targetConformance',
    call: testing.targetConformance,
    parameters: [options({ open: fn, reset: fn }, { open: async () => new main.MemoryTarget() })],
  },
  { name: 'freshSeed', call: testing.freshSeed, parameters: [] },
  { name: 'randomBytesFrom', call: testing.randomBytesFrom, parameters: [callback(() => 0.5), integer(4)] },
  {
    name: 'scriptedFaults',
    call: testing.scriptedFaults,
    parameters: [list(() => [], [null, 5, {}, { fault: { kind: 'nonsense' } }])],
  },
  { name: 'seededFaults', call: testing.seededFaults, parameters: [options({ maxDelayMs: number }, { rates: {} })] },
  {
    name: 'seededRandom',
    call: testing.seededRandom,
    parameters: [{ right: () => 1, wrong: [undefined, null, 'text', {}, Number.NaN] }],
  },
];

/** Exports that are no functions. */
export const VALUES: readonly string[] = [
  'MAX_KEY_LENGTH',
  'MAX_KEY_SEGMENT_LENGTH',
  'SEAL_WORKER_URL',
  'TARGET_CHANNELS',
  'underlyingDevice',
];
