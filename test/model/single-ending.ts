/**
 * P13 where the log ends: a store without create-only, in which the keys of entries end in their hash, and whose old entries are
 * deleted. Each host believes that it is the only one. Checkpoints count as there: opening reads the newest entry and
 * everything down to its floor.
 */
import { fold, follow, lastWord, numberOf } from './chains.ts';
import type { Emit, Model } from './explore.ts';
import { Interned } from './interned.ts';
import type { Rule } from './rules.ts';

interface Objects {
  /** The chains of all entries that are there, by number and text. */
  readonly log: readonly string[];
  readonly net: readonly string[];
  /** Nobody sees it: what came first at each number. */
  readonly truth: string;
  readonly mayDelete: number;
}

interface SingleHost {
  readonly pc: 'closed' | 'open' | 'sent' | 'created' | 'refused';
  readonly at: string;
  readonly sent: string;
  readonly built: number;
  readonly crashes: number;
  readonly reported: readonly string[];
  readonly mistake: string;
}

interface SingleState {
  readonly objects: Objects;
  readonly hosts: readonly SingleHost[];
}

export interface SingleEndingConfiguration {
  /** How many entries each host sends. */
  readonly entries: readonly number[];
  readonly crashes: number;
}

const CLOSED: SingleHost = { pc: 'closed', at: '', sent: '', built: 0, crashes: 0, reported: [], mistake: '' };
type Keeps = (rule: Rule) => boolean;

export function singleEndingModel(
  { entries, crashes }: SingleEndingConfiguration,
  without: readonly Rule[] = [],
): Model<SingleState> {
  const keeps: Keeps = (rule) => !without.includes(rule);
  const codec = new Interned<SingleState>(
    ({ objects, hosts }) => [objects, ...hosts],
    ([objects, ...hosts]) => ({ objects: objects as Objects, hosts: hosts as SingleHost[] }),
  );
  const first = follow(follow('', 'i1n'), 'i2n');
  return {
    initial: () => ({
      objects: { log: [follow('', 'i1n'), first], net: [], truth: first, mayDelete: 0 },
      hosts: entries.map(() => CLOSED),
    }),
    successors: (state, emit) => {
      const { objects } = state;
      for (const late of objects.net) {
        const net = objects.net.filter((chain) => chain !== late);
        emit(`the late ${lastWord(late)} lands at ${numberOf(late)}`, {
          ...state,
          objects: put({ ...objects, net }, late),
        });
      }
      for (const chain of objects.log) {
        if (numberOf(chain) > objects.mayDelete) continue;
        const log = objects.log.filter((other) => other !== chain);
        emit(`${lastWord(chain)} at ${numberOf(chain)} is deleted`, { ...state, objects: { ...objects, log } });
      }
      for (const index of entries.keys()) step(state, index, entries[index]!, crashes, keeps, emit);
    },
    encode: (state) => codec.encode(state),
    decode: (bytes) => codec.decode(bytes),
    mayRest: ({ hosts }) => hosts.every(({ pc }) => pc === 'open' || pc === 'refused'),
    invariants: [
      {
        name: 'I2: a success that was reported is in the log',
        broken: ({ objects, hosts }) => {
          const lost = hosts.flatMap(({ reported }) => reported).find((chain) => !objects.truth.startsWith(chain));
          return lost && `${lastWord(lost)} at ${numberOf(lost)} was reported, and the log is ${objects.truth}`;
        },
      },
      { name: 'I6: what is believed is the log', broken: ({ hosts }) => hosts.find((h) => h.mistake)?.mistake },
    ],
  };
}

function put(objects: Objects, chain: string): Objects {
  if (objects.log.includes(chain)) return objects;
  const log = [...objects.log, chain].sort((a, b) => numberOf(a) - numberOf(b) || (a < b ? -1 : 1));
  const isNext = fold(chain).through.at(-2) === objects.truth;
  return { ...objects, log, truth: isNext ? chain : objects.truth };
}

/** Opening: the newest entry, and everything down to its floor. */
function look({ log, truth }: Objects, keeps: Keeps): { chain: string; code: string; mistake: string } {
  const chain = log.at(-1)!;
  const { count, through, floor } = fold(chain);
  const numbers = log.map(numberOf);
  const forks = numbers.filter((number, index) => numbers[index + 1] === number);
  const forked = forks.findLast((number) => number > floor || !keeps('P13.floor'));
  if (forked !== undefined && keeps('P13.look')) {
    // Nothing is wrong if the log does not have it above its floor.
    const isFalse = forks.every((number) => number <= fold(truth).floor);
    return {
      chain,
      code: 'LOG_FORKED',
      mistake: isFalse ? `LOG_FORKED at ${forked}, which means nothing any more` : '',
    };
  }
  for (let number = floor + 1; number <= count; number++) {
    if (!log.includes(through[number]!)) return { chain, code: 'LOG_TRUNCATED', mistake: '' };
  }
  return { chain, code: '', mistake: chain === truth ? '' : `${chain} is believed, and the log is ${truth}` };
}

function step(
  state: SingleState,
  index: number,
  entries: number,
  crashes: number,
  keeps: Keeps,
  emit: Emit<SingleState>,
): void {
  const self = state.hosts[index]!;
  const { objects } = state;
  const name = `host ${'ab'[index]}`;
  const become = (label: string, changes: Partial<SingleHost>, next = objects): void =>
    emit(`${name} ${label}`, { objects: next, hosts: state.hosts.with(index, { ...self, ...changes }) });
  if (self.pc === 'closed' || self.pc === 'created') {
    const { chain, code, mistake } = look(objects, keeps);
    if (code !== '') return void become(`looks: ${code}`, { pc: 'refused', sent: '', mistake });
    const isThere = self.sent !== '' && chain.startsWith(self.sent);
    const reported = isThere ? [...self.reported, self.sent] : self.reported;
    const mayDelete = Math.max(objects.mayDelete, fold(chain).floor);
    const what = self.sent === '' ? '' : isThere ? ', its entry is there' : ', its entry is not there';
    become(
      `looks: entry ${numberOf(chain)}${what}`,
      { pc: 'open', at: chain, sent: '', reported, mistake },
      { ...objects, mayDelete },
    );
  }
  if (self.pc === 'open' && self.built < entries) {
    const floor = numberOf(self.at) - 1;
    for (const word of ['n', `k${floor}..`]) {
      const sent = follow(self.at, `${'ab'[index]}${self.built + 1}${word}`);
      const changes = { sent, built: self.built + 1 };
      become(`puts ${lastWord(sent)} at ${numberOf(sent)}`, { ...changes, pc: 'created' }, put(objects, sent));
      const net = [...objects.net, sent].sort();
      become(`puts ${lastWord(sent)} at ${numberOf(sent)}: no answer`, { ...changes, pc: 'sent' }, { ...objects, net });
    }
  }
  if (self.pc === 'sent') {
    become(`puts ${lastWord(self.sent)} again`, { pc: 'created' }, put(objects, self.sent));
    if (self.crashes < crashes) become('crashes', { pc: 'closed', at: '', sent: '', crashes: self.crashes + 1 });
  }
}
