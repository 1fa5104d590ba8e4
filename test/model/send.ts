/**
 * P5: how an entry reaches a number, and what its writer does while it does not know. A PUT is
 * answered, or not: then it is on its way, to land later or never; that covers lost requests, lost
 * responses and late ones. A PUT that is answered is one step with the decision it rests on, because
 * a decision on an older view meets an occupied number and changes nothing.
 */
import type { Entry } from './log.ts';
import { entryAt } from './log.ts';
import { type Client, END, FAILURE, type State, UNKNOWN, withClient, withEntry } from './state.ts';
import type { Turn } from './world.ts';

/** What an occupied number means to the one who asked for it. */
export interface Outcome {
  won(turn: Turn, entry: Entry, sequence: number): Partial<Client>;
  lost(turn: Turn, entry: Entry): Partial<Client>;
}

export function send(turn: Turn, entry: Entry, label: string, mayBeLate: boolean, outcome: Outcome): void {
  const { world, state, index, emit } = turn;
  const id = world.registry.entryId(entry);
  const slot = state.log.sequence + 1;
  const landed = withEntry(state, world.registry, id);
  emit(`${label} at ${slot}: created`, withClient(landed, index, answered(outcome.won(turn, entry, slot))));
  if (!mayBeLate) return;
  const net = [...new Set([...state.net, id])].sort((a, b) => a - b);
  const waiting = withClient({ ...state, net }, index, { pc: UNKNOWN, pending: id + 1, slot });
  emit(`${label} at ${slot}: no answer`, waiting);
}

const answered = (changes: Partial<Client>): Partial<Client> => ({ pending: 0, slot: 0, ...changes });

export function settle(turn: Turn, outcome: Outcome): void {
  const { world, state, index, client, emit } = turn;
  const { keeps, registry } = world;
  const id = client.pending - 1;
  const entry = registry.entry(id);
  const what = `${nameOf(turn)} asks again for ${client.slot}`;
  if (state.log.sequence >= client.slot) {
    const isOwn = keeps('P5.compare') && entryAt(state.log, client.slot) === id;
    const changes = isOwn ? outcome.won(turn, entry, client.slot) : outcome.lost(turn, entry);
    emit(`${what}: ${isOwn ? 'its own' : "exists, taken as another's"}`, withClient(state, index, answered(changes)));
    return;
  }
  const again = withEntry(state, registry, id);
  emit(`${what}: created`, withClient(again, index, answered(outcome.won(turn, entry, client.slot))));
  takenOut(turn, entry, outcome, what);
}

/** What an implementation without the rest of P5 would do while the number is empty. */
function takenOut(turn: Turn, entry: Entry, outcome: Outcome, what: string): void {
  const { world, state, index, client, emit } = turn;
  const { keeps, registry } = world;
  if (!keeps('P5.report')) {
    const changes = { ...answered(outcome.lost(turn, entry)), pc: END, told: FAILURE, toldSession: client.session };
    emit(`${nameOf(turn)} reports failure without knowing`, withClient(state, index, changes));
  }
  if (!keeps('P5.sameBytes') && client.attempt < 1) {
    const other = registry.entryId({ ...entry, attempt: entry.attempt + 100 });
    const changes = { pending: other + 1, attempt: client.attempt + 1 };
    const net = [...state.net, other].sort((a, b) => a - b);
    emit(`${what} with other bytes`, withClient({ ...state, net }, index, changes));
  }
  if (!keeps('P5.order')) {
    const hole = registry.entryId({ type: 'hole', who: index, attempt: 0 });
    const next: State = withEntry({ ...state, log: registry.append(state.log, hole) }, registry, client.pending - 1);
    const changes = answered(outcome.won(turn, entry, client.slot + 1));
    emit(`${nameOf(turn)} goes on at ${client.slot + 1}`, withClient(next, index, changes));
  }
}

export const listed = (word: string, numbers: readonly number[]): string =>
  numbers.length > 0 ? `${word} ${numbers.join(' ')}` : '';

export const nameOf = (turn: Turn): string => `${turn.role.kind} ${turn.index}`;
