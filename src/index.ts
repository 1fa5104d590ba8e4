/**
 * Point-in-time backups of live block storage to an object store: copy-on-write snapshots of whatever holds the blocks,
 * and a repository of deduplicated, encrypted, incremental backups.
 *
 * @packageDocumentation
 */

export { type AbortOptions, abortable } from './common/abort.ts';
export type { BlockRange } from './common/block-range.ts';
export type { ByteRange } from './common/byte-range.ts';
export type { TargetClock } from './common/clock.ts';
export {
  BackupError,
  type BackupErrorCode,
  type BackupErrorOptions,
  type KnownBackupErrorCode,
} from './common/errors.ts';
export type { BlockDevice, DeviceStamp, Extent, SyncAccess, SyncBlockDevice } from './device/block-device.ts';
export { underlyingDevice, type WrappingDevice } from './device/block-device.ts';
export { byteDevice } from './device/byte-device.ts';
export { FileDevice } from './device/file-device.ts';
export type { FileDeviceCreateOptions, FileDeviceOptions } from './device/file-device-options.ts';
export { MemoryDevice, type MemoryDeviceOptions } from './device/memory-device.ts';
export { sliceDevice } from './device/slice-device.ts';
export { type PageStore, pageDevice, type SyncStore, SyncStoreDevice, syncDevice } from './device/sync-device.ts';
export { BackupPipeline, type PipelineResult } from './pipeline/backup-pipeline.ts';
export {
  type CompressionOptions,
  checksum,
  compression,
  type EncryptionOptions,
  encryption,
} from './pipeline/block-transforms.ts';
export type {
  BlockCall,
  CommonPipelineOptions,
  LoadBlock,
  PipelineOptions,
  PipelineRetryOptions,
  StoreBlock,
  StoreRecord,
} from './pipeline/pipeline-options.ts';
export type { BlocksAnswer, PipelineEvents, PipelineProgress, PipelineStatus } from './pipeline/pipeline-progress.ts';
export { PipelineRecord, type PreviousRecord } from './pipeline/pipeline-record.ts';
export {
  type RestoreBlocksOptions,
  type RestoreBlocksProgress,
  type RestoreBlocksResult,
  restoreBlocks,
} from './pipeline/restore-blocks.ts';
export type { BlockTransform, TransformContext } from './pipeline/transform.ts';
export type { PipelineChangeReason, PipelineChangeSource } from './pipeline/unchanged-blocks.ts';
export type {
  BackupGroup,
  BackupJob,
  BackupOptions,
  BackupProgress,
  BackupResult,
  BackupSource,
  GroupOptions,
  GroupPart,
  JobStatus,
  WatchOptions,
} from './repository/backup/backup-job.ts';
export type { ChangeSource } from './repository/backup/backup-plan.ts';
export type { SessionInfo } from './repository/backup/list-sessions.ts';
export type { Outage } from './repository/backup/outage-retries.ts';
export type { SessionLiveness } from './repository/backup/session-owner.ts';
export type { ChangeReason } from './repository/backup/witnessed-commits.ts';
export { BackupRepository } from './repository/backup-repository.ts';
export type { RepositoryStats, VolumeInfo } from './repository/catalogue.ts';
export type { BackupInfo } from './repository/context/backup-info.ts';
export type { Progress, ProgressOptions } from './repository/context/progress.ts';
export type { KeyProvider, Unlock } from './repository/crypto/unlock.ts';
export type { Estimate, EstimatedWork } from './repository/estimate.ts';
export type { LatestBackupOptions, ListBackupsOptions } from './repository/list-options.ts';
export type { LogPosition } from './repository/log/log-source.ts';
export type { LogDamage } from './repository/log/open-log.ts';
export type { KeySlotInfo, KeySlots } from './repository/open/key-slots.ts';
export { formatPosition, parsePosition } from './repository/open/log-position.ts';
export type {
  CreateOptions,
  NewRepositoryOptions,
  OpenOptions,
  RepositoryTuning,
} from './repository/open/repository-options.ts';
export { SEAL_WORKER_URL } from './repository/packs/seal-pool/seal-runner.ts';
export type { DamagedBackup } from './repository/prune/damaged-backups.ts';
export type { PruneOptions, PruneResult } from './repository/prune/prune-options.ts';
export type { Unreferenced, UnreferencedSession } from './repository/prune/unreferenced.ts';
export type {
  OpenBackupOptions,
  OpenedBackup,
  RestoreOptions,
  RestoreResult,
  RestoreToFileOptions,
} from './repository/restore/restore-options.ts';
export type { ApplyRetentionOptions, RetentionResult } from './repository/retention/apply-retention.ts';
export type { ForgetOptions, HoldOptions } from './repository/retention/forget.ts';
export type { RetentionPolicy } from './repository/retention/retention-policy.ts';
export type { DamagedObject } from './repository/verify/small-objects.ts';
export type {
  DamagedPack,
  ReplicaDamage,
  VerifyDepth,
  VerifyOptions,
  VerifyResult,
} from './repository/verify/verify-options.ts';
export type { BlockState } from './state/block-state.ts';
export {
  BlockStateMap,
  type BlockStates,
  type DecodeOptions,
  type StateChange,
  type StateRange,
} from './state/block-state-map.ts';
export type {
  CloudTarget,
  GetOptions,
  Leftovers,
  ListOptions,
  ObjectInfo,
  PutOptions,
  RemoveLeftoversOptions,
  TargetCapabilities,
  TargetMember,
} from './targets/cloud-target.ts';
export { MAX_KEY_LENGTH, MAX_KEY_SEGMENT_LENGTH } from './targets/cloud-target.ts';
export { type FanOut, type FanOutOptions, fanOut, type ReplicaFailure } from './targets/decorators/fan-out.ts';
export {
  type ClosableTarget,
  ForwardingTarget,
  type TargetCall,
  type TargetOperation,
} from './targets/decorators/forwarding-target.ts';
export { readOnlyTarget } from './targets/decorators/read-only.ts';
export type { RequestBudget } from './targets/decorators/request-meter.ts';
export type { SynchronizedReplica, SynchronizeOptions, SynchronizeProgress } from './targets/decorators/synchronize.ts';
export { type BandwidthOptions, withBandwidthLimit } from './targets/decorators/with-bandwidth-limit.ts';
export { type ConcurrencyOptions, withConcurrencyLimit } from './targets/decorators/with-concurrency-limit.ts';
export { type RetryOptions, withRetries } from './targets/decorators/with-retries.ts';
export {
  TARGET_CHANNELS,
  type TargetTrace,
  type TracingOptions,
  withTracing,
} from './targets/decorators/with-tracing.ts';
export { type DeleteAllOptions, deleteAll } from './targets/delete-all.ts';
export { FileTarget } from './targets/file/file-target.ts';
export type { FileTargetOptions } from './targets/file/file-target-options.ts';
export { checkKey, isKey } from './targets/keys.ts';
export { MemoryTarget, type MemoryTargetOptions } from './targets/memory-target.ts';
export { CopyOnWriteVolume, type SyncVolumeAccess } from './volume/copy-on-write-volume.ts';
export type { ChangePoint } from './volume/epochs/epoch-map.ts';
export type { SnapshotOptions } from './volume/freeze.ts';
export type { BlockMark } from './volume/live-snapshots.ts';
export type { PreimageUse } from './volume/preimage-buffers.ts';
export type { DiscardReason, VolumeRecovery } from './volume/state-directory/open-state.ts';
export type { StateFile, StateStorage } from './volume/state-directory/state-storage.ts';
export type { PreserveFailure, PreserveOptions, VolumeOptions } from './volume/volume-options.ts';
export { type Volume, type VolumeEvents, VolumeSnapshot } from './volume/volume-snapshot.ts';
