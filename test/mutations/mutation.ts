/**
 * A rule taken out of the source, and the tests that must then fail.
 *
 * The places are marked in the source by a comment `// @mutation name` on a line of its own. It marks what begins
 * behind it: a statement, or an element of a list such as a property. The table never matches the source's text, so
 * what is marked can be renamed and mended; `mutations.test.ts` holds that every mutation still compiles.
 */
export interface Mutation {
  readonly rule: string;
  /** What the mutated program does wrong. */
  readonly what: string;
  /** By the name of a mark: what stands there instead. */
  readonly edits: Readonly<Record<string, Replacement>>;
  readonly tests: {
    /** The test files to run, from the root of the project. */
    readonly files: readonly string[];
    /** A pattern for the full names of the tests, of which at least one must fail. */
    readonly names: string;
  };
}

/** Code, or a function that makes it of the code that is marked and of what other marks mark. */
export type Replacement = string | ((marked: string, codeAt: (mark: string) => string) => string);

/** What one mutated program does wrong, the edits that make it, and the tests that must notice. */
type Breach = readonly [what: string, edits: Mutation['edits'], tests: Mutation['tests']];

/** The mutations that take one rule out. */
export function without(rule: string, ...breaches: readonly Breach[]): Mutation[] {
  return breaches.map(([what, edits, tests]) => ({ rule, what, edits, tests }));
}

/** Tests of these files, by a pattern for their names. */
export function testsIn(...files: string[]): (names: string) => Mutation['tests'] {
  return (names) => ({ files, names });
}
