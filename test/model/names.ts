/**
 * How packs are named, by itself. A machine is set back together with its state directory, or lives
 * twice: one session is then filled by two incarnations that remember the same. The store need not have
 * create-only for packs. Contents differ, because the volume went on in between.
 */
import { jsonCodec, type Model } from './explore.ts';
import type { Rule } from './rules.ts';

interface NamesState {
  /** Per object name, who filled it. */
  readonly objects: Readonly<Record<string, string>>;
  readonly committed: readonly { readonly name: string; readonly content: string }[];
  readonly incarnations: readonly { readonly counter: number; readonly uploads: readonly string[] }[];
}

export function namesModel(uploads: number, without: readonly Rule[] = []): Model<NamesState> {
  const isFresh = !without.includes('names');
  return {
    initial: () => ({ objects: {}, committed: [], incarnations: [{ counter: 0, uploads: [] }] }),
    successors: (state, emit) => {
      for (const [who, self] of state.incarnations.entries()) {
        const become = (changes: Partial<typeof self>) => state.incarnations.with(who, { ...self, ...changes });
        if (self.uploads.length < uploads) {
          // Fresh randomness is told apart by who drew it.
          const name = isFresh ? `S/${who}-${self.counter}` : `S/${self.counter}`;
          const objects = { ...state.objects, [name]: `content of ${who}-${self.counter}` };
          const incarnations = become({ counter: self.counter + 1, uploads: [...self.uploads, name] });
          emit(`incarnation ${who} fills ${name}`, { ...state, objects, incarnations });
        }
        if (state.incarnations.length < 2) {
          emit('the machine is set back', {
            ...state,
            incarnations: [...state.incarnations, { counter: 0, uploads: [] }],
          });
        }
        if (self.uploads.length > 0 && state.committed.length === 0) {
          const committed = self.uploads.map((name, k) => ({ name, content: `content of ${who}-${k}` }));
          emit(`incarnation ${who} commits ${self.uploads.join(' ')}`, { ...state, committed });
        }
      }
    },
    ...jsonCodec,
    decode: (bytes) => jsonCodec.decode(bytes),
    mayRest: () => true,
    invariants: [
      {
        name: 'I1: what was committed is what is stored',
        broken: ({ committed, objects }) => {
          const wrong = committed.find(({ name, content }) => objects[name] !== content);
          return wrong && `${wrong.name} should hold ${wrong.content}, and holds ${objects[wrong.name] ?? 'nothing'}`;
        },
      },
    ],
  };
}
