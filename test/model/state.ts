/** A state of the whole system, and its bytes. */
import type { LogNode, Registry } from './log.ts';

export interface Pack {
  readonly id: number;
  readonly contents: number;
  readonly isPresent: boolean;
  /** A PUT of it is on its way and may land at any time, or never. */
  readonly isInFlight: boolean;
}

export const IDLE = 0;
/** An entry was sent and nothing came back. */
export const UNKNOWN = 1;
export const BUSY = 2;
/** A collector has made its plan. A writer, with P4.again taken out, has made its decision. */
export const DECIDED = 3;
export const END = 4;

export const NOTHING = 0;
export const SUCCESS = 1;
export const FAILURE = 2;
export const PACK_MISSING = 3;
export const FORGOTTEN = 4;

export interface Client {
  readonly pc: number;
  readonly session: number;
  /** An interned entry plus one; 0 for none. */
  readonly pending: number;
  /** The number it was sent to. */
  readonly slot: number;
  /** Packs of the session that were acknowledged; and one more if its PUT gave no answer. */
  readonly acknowledged: number;
  readonly isUnanswered: boolean;
  /** What the host was told, and of which session. */
  readonly told: number;
  readonly toldSession: number;
  readonly rounds: number;
  readonly crashes: number;
  readonly attempt: number;
  /** A reader's view of the log, its backup and how far it has read; a repacker's old pack. */
  readonly log: number;
  readonly subject: number;
  readonly at: number;
}

export const NEW_CLIENT: Client = {
  pc: IDLE,
  session: 0,
  pending: 0,
  slot: 0,
  acknowledged: 0,
  isUnanswered: false,
  told: NOTHING,
  toldSession: 0,
  rounds: 0,
  crashes: 0,
  attempt: 0,
  log: 0,
  subject: 0,
  at: 0,
};

export interface State {
  readonly log: LogNode;
  /** Entries on their way to the next number. Those sent to an occupied one can do nothing any more. */
  readonly net: readonly number[];
  /** In order of id. A deleted pack stays as a memory of what it held. */
  readonly packs: readonly Pack[];
  readonly clients: readonly Client[];
}

export const packAt = (state: State, id: number): Pack | undefined => state.packs.find((p) => p.id === id);

export const isPresent = (state: State, id: number): boolean => packAt(state, id)?.isPresent === true;

export function withClient(state: State, index: number, changes: Partial<Client>): State {
  return { ...state, clients: state.clients.with(index, { ...state.clients[index]!, ...changes }) };
}

export function withPack(state: State, pack: Pack): State {
  const packs = state.packs.filter((p) => p.id !== pack.id);
  packs.push(pack);
  packs.sort((a, b) => a.id - b.id);
  return { ...state, packs };
}

export function withEntry(state: State, registry: Registry, entry: number): State {
  return { ...state, log: registry.append(state.log, entry), net: [] };
}

const CLIENT_BYTES = 17;
const buffer = new Uint8Array(1024);

export function encodeState(state: State): Uint8Array {
  let at = 0;
  const put3 = (value: number): void => {
    buffer[at++] = value;
    buffer[at++] = value >>> 8;
    buffer[at++] = value >>> 16;
  };
  put3(state.log.id);
  buffer[at++] = state.net.length;
  for (const entry of state.net) put3(entry);
  buffer[at++] = state.packs.length;
  for (const pack of state.packs) {
    buffer[at++] = pack.id;
    buffer[at++] = pack.contents;
    buffer[at++] = (pack.contents >>> 8) * 4 + (pack.isPresent ? 1 : 0) + (pack.isInFlight ? 2 : 0);
  }
  for (const client of state.clients) {
    buffer[at++] = client.pc;
    buffer[at++] = client.session;
    put3(client.pending);
    buffer[at++] = client.slot;
    buffer[at++] = client.acknowledged * 2 + (client.isUnanswered ? 1 : 0);
    buffer[at++] = client.told;
    buffer[at++] = client.toldSession;
    buffer[at++] = client.rounds;
    buffer[at++] = client.crashes;
    buffer[at++] = client.attempt;
    put3(client.log);
    buffer[at++] = client.subject;
    buffer[at++] = client.at;
  }
  return buffer.subarray(0, at);
}

export function decodeState(bytes: Uint8Array, registry: Registry): State {
  let at = 0;
  const get3 = (): number => {
    at += 3;
    return bytes[at - 3]! | (bytes[at - 2]! << 8) | (bytes[at - 1]! << 16);
  };
  const log = registry.node(get3());
  const net = Array.from({ length: bytes[at++]! }, get3);
  const packs = Array.from({ length: bytes[at++]! }, (): Pack => {
    const id = bytes[at++]!;
    const low = bytes[at++]!;
    const rest = bytes[at++]!;
    return { id, contents: low + (rest >> 2) * 256, isPresent: (rest & 1) > 0, isInFlight: (rest & 2) > 0 };
  });
  const clients: Client[] = [];
  while (bytes.length - at >= CLIENT_BYTES) {
    const pc = bytes[at++]!;
    const session = bytes[at++]!;
    const pending = get3();
    const slot = bytes[at++]!;
    const uploads = bytes[at++]!;
    clients.push({
      pc,
      session,
      pending,
      slot,
      acknowledged: uploads >> 1,
      isUnanswered: (uploads & 1) > 0,
      told: bytes[at++]!,
      toldSession: bytes[at++]!,
      rounds: bytes[at++]!,
      crashes: bytes[at++]!,
      attempt: bytes[at++]!,
      log: get3(),
      subject: bytes[at++]!,
      at: bytes[at++]!,
    });
  }
  return { log, net, packs, clients };
}
