import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

/** What the API reports say of a function, a method or a constructor. */
export interface ReportedCall {
  readonly parameters: readonly ReportedParameter[];
}

export interface ReportedParameter {
  readonly name: string;
  /** Names of the properties of its type where that is an options type: one whose name ends in Options or Policy. */
  readonly keys: readonly string[] | undefined;
}

/** An exported class or interface with methods, or an exported function by itself. */
export interface Reported {
  readonly name: string;
  readonly kind: 'class' | 'interface' | 'function';
  /** Of a function, and of a class that can be constructed. */
  readonly call: ReportedCall | undefined;
  readonly statics: ReadonlyMap<string, ReportedCall>;
  readonly methods: ReadonlyMap<string, ReportedCall>;
}

const REPORTS = ['cow-cloud-backup', 'cow-cloud-backup.s3', 'cow-cloud-backup.testing'];
const IS_OPTIONS = /(Options|Policy)$/;

/** All that the API reports have, the second reading of a name (an overload) added to the first. */
export function apiReports(): Reported[] {
  const sources = REPORTS.map((name) => {
    const text = readFileSync(join(import.meta.dirname, `../../etc/${name}.api.md`), 'utf8');
    const code = /```ts\n([\s\S]*?)```/.exec(text)?.[1] ?? '';
    return ts.createSourceFile(`${name}.ts`, code, ts.ScriptTarget.Latest, false);
  });
  const statements = sources.flatMap((source) => [...source.statements]);
  const types = new Map<string, ts.InterfaceDeclaration | ts.TypeAliasDeclaration>();
  for (const statement of statements) {
    if (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)) {
      types.set(statement.name.text, statement);
    }
  }
  const reader = new Reader(types);
  const found = new Map<string, Reported>();
  for (const statement of statements) {
    const reported = reader.read(statement);
    if (reported === undefined) continue;
    const known = found.get(reported.name);
    // `export const FaultyDevice` has its constructor in an interface, and its methods in another.
    found.set(reported.name, known === undefined ? reported : { ...known, call: known.call ?? reported.call });
  }
  return [...found.values()];
}

class Reader {
  readonly #types: ReadonlyMap<string, ts.InterfaceDeclaration | ts.TypeAliasDeclaration>;

  constructor(types: ReadonlyMap<string, ts.InterfaceDeclaration | ts.TypeAliasDeclaration>) {
    this.#types = types;
  }

  read(statement: ts.Statement): Reported | undefined {
    const nothing = { call: undefined, statics: new Map(), methods: new Map() };
    if (ts.isFunctionDeclaration(statement)) {
      return { ...nothing, name: nameOf(statement.name), kind: 'function', call: this.#call(statement) };
    }
    if (ts.isInterfaceDeclaration(statement)) {
      const made = statement.members.find(ts.isConstructSignatureDeclaration);
      if (made !== undefined) {
        const name = statement.name.text.replace(/Constructor$/, '');
        return { ...nothing, name, kind: 'class', call: this.#call(made) };
      }
      return { ...nothing, name: statement.name.text, kind: 'interface', methods: this.#methods(statement.members) };
    }
    if (!ts.isClassDeclaration(statement)) return undefined;
    const isStatic = (member: ts.ClassElement) => has(member, ts.SyntaxKind.StaticKeyword);
    const open = statement.members.filter((member) => !has(member, ts.SyntaxKind.ProtectedKeyword));
    const made = open.find(ts.isConstructorDeclaration);
    return {
      name: nameOf(statement.name),
      kind: 'class',
      call: made && this.#call(made),
      statics: this.#methods(open.filter(isStatic)),
      methods: this.#methods(open.filter((member) => !isStatic(member))),
    };
  }

  #methods(members: readonly (ts.ClassElement | ts.TypeElement)[]): Map<string, ReportedCall> {
    const methods = new Map<string, ReportedCall>();
    for (const member of members) {
      const { name } = member;
      if (name === undefined || !ts.isIdentifier(name)) continue;
      if (ts.isMethodDeclaration(member) || ts.isMethodSignature(member)) methods.set(name.text, this.#call(member));
      else if (ts.isPropertyDeclaration(member) && member.type !== undefined && ts.isFunctionTypeNode(member.type)) {
        methods.set(name.text, this.#call(member.type));
      }
    }
    return methods;
  }

  #call({ parameters }: { readonly parameters: ts.NodeArray<ts.ParameterDeclaration> }): ReportedCall {
    return {
      parameters: parameters.map(({ name, type }) => {
        const isOptions = type !== undefined && this.#isOptions(type);
        return {
          name: nameOf(name as ts.Identifier).replace(/^_/, ''),
          keys: isOptions ? this.#keysOf(type) : undefined,
        };
      }),
    };
  }

  #isOptions(type: ts.TypeNode): boolean {
    if (ts.isIntersectionTypeNode(type)) return type.types.some((each) => this.#isOptions(each));
    if (ts.isTypeLiteralNode(type)) return true;
    return ts.isTypeReferenceNode(type) && IS_OPTIONS.test(nameOf(type.typeName));
  }

  /** Names of the properties of an options type. */
  #keysOf(type: ts.TypeNode | ts.ExpressionWithTypeArguments): string[] {
    if (ts.isIntersectionTypeNode(type)) return type.types.flatMap((each) => this.#keysOf(each));
    if (ts.isTypeLiteralNode(type)) return type.members.map(({ name }) => nameOf(name));
    const name = ts.isTypeReferenceNode(type)
      ? nameOf(type.typeName)
      : ts.isExpressionWithTypeArguments(type)
        ? nameOf(type.expression)
        : undefined;
    if (name === undefined) return [];
    const [of, some] = (type as ts.TypeReferenceNode).typeArguments ?? [];
    if (name === 'Pick' && of !== undefined && some !== undefined) {
      const names = ts.isUnionTypeNode(some) ? some.types : [some];
      return names.map((each) => ((each as ts.LiteralTypeNode).literal as ts.StringLiteral).text);
    }
    const declared = this.#types.get(name);
    if (declared === undefined) throw new Error(`the API reports have no type ${name}`);
    if (ts.isTypeAliasDeclaration(declared)) return this.#keysOf(declared.type);
    const above = (declared.heritageClauses ?? []).flatMap(({ types }) => types.flatMap((each) => this.#keysOf(each)));
    return [...above, ...declared.members.map((member) => nameOf(member.name))];
  }
}

function nameOf(name: ts.Node | undefined): string {
  return (name as ts.Identifier | undefined)?.text ?? '';
}

function has(member: ts.ClassElement, keyword: ts.SyntaxKind): boolean {
  return ts.canHaveModifiers(member) && (ts.getModifiers(member)?.some(({ kind }) => kind === keyword) ?? false);
}
