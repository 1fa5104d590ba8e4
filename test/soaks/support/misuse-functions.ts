import { join } from 'node:path';
import * as main from '../../../src/index.ts';
import * as s3 from '../../../src/s3.ts';
import * as testing from '../../../src/testing.ts';
import { device, KEY, NO_RANGE, NO_UNLOCK, PIPELINE, pipelineRecord, TUNING, target } from './misuse-parameters.ts';
import { BLOCK, type World } from './misuse-world.ts';
import {
  alsoNamed,
  bytes,
  callback,
  choice,
  coded,
  integer,
  list,
  OPTIONAL,
  object,
  options,
  other,
  type Parameter,
  text,
} from './wrong-values.ts';

const { boolean, number, text: words, callback: fn, clock, signal, object: plain } = OPTIONAL;

/** An exported function or class: how it is called or made. */
export interface Entry {
  readonly name: string;
  readonly call: (...args: never[]) => unknown;
  readonly parameters: readonly Parameter[];
  /** What it answers to whatever it is asked: it tells what is from what is not. */
  readonly answers?: unknown;
}

const noMode = [null, '384', -1, 0.5, 0o10000, {}, []];
const NO_PAGES = [
  { pageSize: 512, pageCount: 1 },
  { pageSize: '512', pageCount: 1, readPage() {}, writePage() {}, sync() {} },
  { pageSize: 512, pageCount: -1, readPage() {}, writePage() {}, sync() {} },
];
const NO_STORE = [
  { size: 512, sectorSize: '512', readSync() {}, writeSync() {}, flushSync() {} },
  { size: 500, sectorSize: 512, readSync() {}, writeSync() {}, flushSync() {} },
];

/** Right arguments would do too much to these: only wrong ones are given. */
export const FUNCTIONS: readonly Entry[] = [
  {
    name: 'BackupError',
    call: (code, message, of) => new main.BackupError(code, message, of),
    parameters: [
      text('code', 'TARGET_ERROR'),
      other('message', 'what happened', undefined, null, 5, {}, [], Symbol('a symbol')),
      options({ cause: [], retryable: boolean, retryAfterMs: [null, '1', -1, Number.NaN, {}] }),
    ],
  },
  {
    name: 'BackupError.is',
    call: main.BackupError.is,
    parameters: [text('error', 5), text('code', 'CLOSED')],
    answers: false,
  },
  {
    name: 'BackupPipeline.start',
    call: main.BackupPipeline.start,
    parameters: [
      object('snapshot', (world: World) => world.snapshot, new main.MemoryDevice(BLOCK)),
      options(
        {
          store: fn,
          storeRecord: fn,
          previous: [
            ...[null, 5, 'text', [], new Map(), {}, { states: 5 }, { states: {} }],
            ...[
              { point: 5 },
              { point: { trackingId: 5, epoch: 1 } },
              { point: { trackingId: 'a', epoch: '1' } },
              { size: '1' },
              { size: -1 },
              { blockSize: 0 },
            ].map((wrong) => ({ states: new main.BlockStateMap(16), ...wrong })),
          ],
          changes: [null, 5, 'text', {}],
          ...PIPELINE,
        },
        { store: async () => {} },
      ),
    ],
  },
  {
    name: 'BackupRepository.create',
    call: main.BackupRepository.create,
    parameters: [
      target('target'),
      options(
        { encryption: ['nothing', ...NO_UNLOCK], singleWriter: boolean, signal, ...TUNING },
        { encryption: 'none' },
      ),
    ],
  },
  {
    name: 'BackupRepository.open',
    call: main.BackupRepository.open,
    parameters: [
      target('target'),
      options({
        unlock: NO_UNLOCK,
        readOnly: boolean,
        singleWriter: boolean,
        createIfMissing: [null, 5, 'none', [], {}, { encryption: 'nothing' }, { encryption: 'none', nonsense: 1 }],
        remembered: [null, 5, '{}', '12', {}, [], new Map(), { seq: 1 }, { seq: '1', hash: new Uint8Array(32) }],
        signal,
        ...TUNING,
      }),
    ],
  },
  {
    name: 'BlockStateMap',
    call: (count, initial) => new main.BlockStateMap(count, initial),
    parameters: [integer('blockCount', 4, 2 ** 40), choice('initial', 'zero', true)],
  },
  {
    name: 'BlockStateMap.decode',
    call: main.BlockStateMap.decode,
    parameters: [bytes('bytes', await new main.BlockStateMap(4).encode()), options({ maxBlocks: number })],
  },
  {
    name: 'PipelineRecord.decode',
    call: main.PipelineRecord.decode,
    parameters: [bytes('bytes', await pipelineRecord.encode()), options({ maxBlocks: number })],
  },
  {
    name: 'restoreBlocks',
    call: main.restoreBlocks,
    parameters: [
      object('record', () => pipelineRecord),
      device('device'),
      options({ load: fn, allowLost: boolean, ...PIPELINE }, { load: async () => new Uint8Array(BLOCK) }),
    ],
  },
  {
    name: 'compression',
    call: main.compression,
    parameters: [options({ level: [...number.filter((level) => level !== -1), 99, -99] })],
  },
  {
    name: 'encryption',
    call: main.encryption,
    parameters: [
      {
        ...bytes('key', () => new Uint8Array(32).fill(7)),
        wrong: [
          ...bytes('key', 0).wrong,
          ...[0, 31, 33].map((length) => ({ value: new Uint8Array(length).fill(7), names: ['key'] })),
          { value: new Uint8Array(32), names: ['key'] },
        ],
      },
      options({ context: [null, 5, {}, ['text']] }),
    ],
  },
  { name: 'checksum', call: main.checksum, parameters: [] },
  {
    name: 'CopyOnWriteVolume.open',
    call: main.CopyOnWriteVolume.open,
    parameters: [
      device('device'),
      options({
        blockSize: [...number, 5000, 1024, 2 ** 30],
        name: [null, 5, {}],
        closeDevice: boolean,
        stateDirectory: [null, 5, '', {}, [], { list() {} }],
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
    parameters: [list('volumes', (world: World) => [world.volume]), options({ atInstant: fn, signal })],
  },
  {
    name: 'FileDevice.open',
    call: main.FileDevice.open,
    parameters: [
      text('path', (world: World) => join(world.folder, 'a-device')),
      options({
        readOnly: boolean,
        shared: boolean,
        create: [
          ...[null, 5, {}, { sizeBytes: '1' }, { sizeBytes: -1 }, { sizeBytes: 1, nonsense: 1 }],
          ...noMode.map((mode) => ({ sizeBytes: 512, mode })),
        ],
      }),
    ],
  },
  {
    name: 'FileTarget',
    call: (folder, of) => new main.FileTarget(folder, of),
    parameters: [
      text('folder', (world: World) => join(world.folder, 'another')),
      options({ createFolder: boolean, fileMode: noMode, directoryMode: noMode }),
    ],
  },
  {
    name: 'ForwardingTarget',
    call: (inner, what) => new (class extends main.ForwardingTarget {})(inner, what),
    parameters: [alsoNamed('target', target('inner')), text('what', 'this target')],
  },
  {
    name: 'MemoryDevice',
    call: (size, of) => new main.MemoryDevice(size, of),
    parameters: [
      integer('sizeOrBytes', 512, ...coded('LIMIT_EXCEEDED', 2 ** 52)),
      options({ sectorSize: [...number, 0] }),
    ],
  },
  {
    name: 'MemoryTarget',
    call: (of) => new main.MemoryTarget(of),
    parameters: [options({ createOnly: boolean, now: fn })],
  },
  {
    name: 'SyncStoreDevice',
    call: (store) => new main.SyncStoreDevice(store),
    parameters: [object('store', () => new main.MemoryDevice(BLOCK), ...NO_STORE)],
  },
  { name: 'checkKey', call: main.checkKey, parameters: [KEY] },
  { name: 'isKey', call: main.isKey, parameters: [{ ...KEY, name: 'text' }], answers: false },
  {
    name: 'formatPosition',
    call: main.formatPosition,
    parameters: [object('position', (world: World) => world.repository.position)],
  },
  {
    name: 'parsePosition',
    call: main.parsePosition,
    parameters: [text('text', (world: World) => main.formatPosition(world.repository.position), 'no position')],
  },
  {
    name: 'abortable',
    call: main.abortable,
    parameters: [object('work', () => Promise.resolve()), other('signal', undefined, ...signal)],
  },
  { name: 'byteDevice', call: main.byteDevice, parameters: [device('device')] },
  {
    name: 'deleteAll',
    call: main.deleteAll,
    parameters: [
      target('target'),
      // Of a foreign element the target says what is wrong with a key.
      { ...other('keys', () => ['a/key'], undefined, null, 5, 'text', {}, true), name: 'keys' },
      options({ concurrency: [...number, 0], batchSize: [...number, 0], signal }),
    ],
  },
  {
    name: 'fanOut',
    call: main.fanOut,
    parameters: [
      target('primary'),
      list('replicas', () => [new main.MemoryTarget()]),
      options({ quorum: [...number, 0, 3], onReplicaError: fn }),
    ],
  },
  {
    name: 'pageDevice',
    call: main.pageDevice,
    parameters: [
      object('store', () => ({ pageSize: 1, pageCount: 1, readPage() {}, writePage() {}, sync() {} }), ...NO_PAGES),
    ],
  },
  { name: 'readOnlyTarget', call: main.readOnlyTarget, parameters: [target('target')] },
  {
    name: 'sliceDevice',
    call: main.sliceDevice,
    parameters: [
      device('device'),
      object(
        'range',
        () => ({ offset: 0, length: 512 }),
        ...NO_RANGE.filter((range) => (range as { offset?: unknown })?.offset !== -1),
        ...coded('OUT_OF_RANGE', { offset: -1, length: 1 }),
      ),
    ],
  },
  {
    name: 'syncDevice',
    call: main.syncDevice,
    parameters: [object('store', () => new main.MemoryDevice(BLOCK), ...NO_STORE)],
  },
  {
    name: 'withBandwidthLimit',
    call: main.withBandwidthLimit,
    parameters: [
      target('target'),
      options({
        uploadBytesPerSecond: [...number, 0],
        downloadBytesPerSecond: [...number, 0],
        burstMs: [...number, 0],
        clock,
      }),
    ],
  },
  {
    name: 'withConcurrencyLimit',
    call: main.withConcurrencyLimit,
    parameters: [target('target'), options({ concurrency: [...number, 0] })],
  },
  {
    name: 'withRetries',
    call: main.withRetries,
    parameters: [
      target('target'),
      options({
        attempts: [...number, 0],
        baseDelayMs: number,
        maxDelayMs: number,
        maxRetryAfterMs: number,
        clock,
        random: fn,
      }),
    ],
  },
  {
    name: 'withTracing',
    call: main.withTracing,
    parameters: [target('target'), options({ name: words })],
  },
  {
    name: 'S3Target',
    call: (of) => new s3.S3Target(of),
    parameters: [
      options(
        {
          client: plain,
          bucket: words,
          prefix: [null, 5, {}],
          requestTimeoutMs: [...number, 0, 2 ** 31],
          totalTimeoutMs: [...number, 0, 2 ** 31],
          checksums: boolean,
          createOnly: boolean,
          tags: boolean,
          deleteVersions: boolean,
          agent: [null, 5, 'text', {}],
        },
        { client: { presignedUrl: async () => '' }, bucket: 'bucket' },
      ),
    ],
  },
  {
    name: 'FaultyDevice',
    call: (inner, plan, of) => new testing.FaultyDevice(inner, plan, of),
    parameters: [
      device('inner'),
      other('plan', () => testing.scriptedFaults([]), null, 5, 'text', {}, [], { next: 5 }),
      options({ clock }),
    ],
  },
  {
    name: 'FaultyTarget',
    call: (inner, plan, of) => new testing.FaultyTarget(inner, plan, of),
    parameters: [target('inner'), object('plan', () => testing.scriptedFaults([])), options({ clock })],
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
  {
    name: 'randomBytesFrom',
    call: testing.randomBytesFrom,
    parameters: [callback('random', () => 0.5), integer('length', 4)],
  },
  {
    name: 'scriptedFaults',
    call: testing.scriptedFaults,
    parameters: [
      list('rules', () => [], [
        ...[null, 5, {}, { fault: null }, { fault: { kind: 'nonsense' } }, { fault: { kind: 'delay' } }],
        ...[
          { nth: 0, fault: { kind: 'corrupt' } },
          { operation: 5, fault: { kind: 'corrupt' } },
        ],
        ...[
          { subject: 5, fault: { kind: 'corrupt' } },
          { nht: 1, fault: { kind: 'corrupt' } },
        ],
      ]),
    ],
  },
  {
    name: 'seededFaults',
    call: testing.seededFaults,
    parameters: [
      options(
        {
          maxDelayMs: number,
          maxFaults: [null, '1', -1, Number.NaN],
          rates: [null, 5, [], { put: 5 }, { put: { nonsense: 1 } }, { put: { corrupt: 2 } }],
          seed: [null, '1', Number.NaN],
        },
        { rates: {} },
      ),
    ],
  },
  {
    name: 'seededRandom',
    call: testing.seededRandom,
    parameters: [other('seed', 1, undefined, null, 'text', {}, Number.NaN)],
  },
];

/** Exports that are no functions, and errors that only this library makes. */
export const VALUES: readonly string[] = [
  'ConformanceError',
  'MAX_KEY_LENGTH',
  'MAX_KEY_SEGMENT_LENGTH',
  'S3RequestError',
  'SEAL_WORKER_URL',
  'TARGET_CHANNELS',
  'VolumeSnapshot',
  'underlyingDevice',
];

/** Interfaces that hosts implement: this library calls their methods, and the sweep gives it objects that lack them. */
export const IMPLEMENTED_BY_HOSTS: readonly string[] = [
  'BlockTransform',
  'ConformanceCase',
  'ConformanceContext',
  'DeviceConformanceOptions',
  'FaultPlan',
  'KeyProvider',
  'PageStore',
  'S3Client',
  'StateFile',
  'StateStorage',
  'TargetClock',
  'TargetConformanceOptions',
];
