/**
 * C22 by the minute: a device that says when it was written last, a directory that records it, and either of them set back alone. Each write
 * has a number of its own, which stands for what the device holds; the directory knows the newest one that it has tracked.
 */
import { type Emit, jsonCodec, type Model } from '../explore.ts';
import type { Rule } from '../rules.ts';

interface Device {
  readonly content: number;
  /** The minute of the last write. */
  readonly version: number;
}

interface Stamped {
  readonly knows: number;
  /** The newest STAMP. */
  readonly minute: number;
  /** CLOSED: the very state of the device; null while it is open, and after a crash. */
  readonly closed: number | null;
}

interface StampsState {
  readonly device: Device;
  readonly directory: Stamped;
  readonly isOpen: boolean;
  readonly minute: number;
  readonly writes: number;
  readonly ends: number;
  readonly saved: { readonly device: Device; readonly directory: Stamped } | null;
  readonly wasSetBack: boolean;
  readonly mistake: string;
}

export interface StampsConfiguration {
  readonly minutes: number;
  readonly writes: number;
  readonly ends: number;
  /** far: to a copy that the last write is two minutes or more away from. near: also to later ones. */
  readonly setBack?: 'far' | 'near' | undefined;
}

export function stampsModel(configuration: StampsConfiguration, without: readonly Rule[] = []): Model<StampsState> {
  const keeps = (rule: Rule): boolean => !without.includes(rule);
  const saved = { device: { content: 0, version: 0 }, directory: { knows: 0, minute: 0, closed: 0 } };
  return {
    initial: () => ({
      ...{ ...saved, isOpen: false, minute: 0, writes: 0, ends: 0, saved: null, wasSetBack: false, mistake: '' },
    }),
    successors: (state, emit) => {
      if (state.minute < configuration.minutes) pass(state, emit);
      if (state.isOpen) use(state, configuration, keeps, emit);
      else reopen(state, keeps, emit);
      if (configuration.setBack && !state.wasSetBack) setBack(state, configuration.setBack, emit);
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      {
        name: 'S1: a state is that of the device, or is discarded, and only then',
        broken: ({ mistake }) => mistake || undefined,
      },
    ],
  };
}

/** At the end of a minute in which there were writes, a STAMP is appended. */
function pass(state: StampsState, emit: Emit<StampsState>): void {
  const { device, directory, minute } = state;
  const isDue = state.isOpen && device.version === minute;
  const stamped = isDue ? { ...directory, minute } : directory;
  emit(`minute ${minute} ends`, { ...state, minute: minute + 1, directory: stamped });
}

function use(
  state: StampsState,
  configuration: StampsConfiguration,
  keeps: (rule: Rule) => boolean,
  emit: Emit<StampsState>,
): void {
  const { directory, minute, writes, ends, device } = state;
  if (writes < configuration.writes) {
    const content = writes + 1;
    // After a time without writes a STAMP is effective before the first one.
    const isFirst = directory.minute < minute - 1 && keeps('C22.first');
    const tracked = { ...directory, knows: content, minute: isFirst ? minute : directory.minute };
    const next = { device: { content, version: minute }, directory: tracked, writes: content };
    emit(`${isFirst ? 'appends STAMP, ' : ''}writes ${content} in minute ${minute}`, { ...state, ...next });
  }
  if (ends === configuration.ends) return;
  emit('is killed', { ...state, isOpen: false, ends: ends + 1 });
  const closed = { ...directory, closed: device.content };
  emit('closes', { ...state, isOpen: false, ends: ends + 1, directory: closed });
}

function reopen(state: StampsState, keeps: (rule: Rule) => boolean, emit: Emit<StampsState>): void {
  const { device, directory, wasSetBack } = state;
  const { closed, minute, knows } = directory;
  const isNear = device.version >= minute - 1 && device.version <= minute + 2;
  const isSame = closed === null ? isNear || !keeps('C22.minute') : closed === device.content || !keeps('C22.stamp');
  const isWrong = isSame && knows !== device.content;
  const isNeedless = !isSame && !wasSetBack;
  const mistake = isWrong ? `the state knows ${knows}, and the device has ${device.content}` : '';
  emit(`opens, and ${isSame ? 'believes' : 'discards'} the state`, {
    ...{ ...state, isOpen: true, directory: { knows: device.content, minute: device.version, closed: null } },
    mistake: isNeedless ? 'the state is discarded, and nothing was set back' : mistake,
  });
}

function setBack(state: StampsState, how: 'far' | 'near', emit: Emit<StampsState>): void {
  const { device, directory, saved, isOpen } = state;
  if (saved === null) {
    emit('device and state are copied', { ...state, saved: { device, directory } });
    return;
  }
  if (isOpen) return;
  const back = { ...state, wasSetBack: true };
  const isFar = (from: number, to: number, minutes: number): boolean => how === 'near' || from - to >= minutes;
  if (isFar(directory.minute, saved.device.version, 2))
    emit('the device is set back', { ...back, device: saved.device });
  if (isFar(device.version, saved.directory.minute, 3))
    emit('the state is set back', { ...back, directory: saved.directory });
}
