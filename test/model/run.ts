/**
 * node test/model/run.ts [--without RULE[,RULE]] [--kept] [--max STATES] [NAME ...]
 *
 * Explores the named configurations (all by default) with every rule in force, then once for each rule
 * that the configuration is there to show, with that rule taken out, and prints the shortest trace.
 */
import { parseArgs } from 'node:util';
import { CONFIGURATIONS } from './configurations.ts';
import { type Exploration, explore } from './explore.ts';
import type { Named } from './named.ts';
import { RULES, type Rule } from './rules.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    without: { type: 'string' },
    kept: { type: 'boolean', default: false },
    max: { type: 'string', default: '5000000' },
    quiet: { type: 'boolean', default: false },
  },
});

const unknown = positionals.filter((name) => !CONFIGURATIONS.some((c) => c.name === name));
if (unknown.length > 0) {
  console.error(
    `no such configuration: ${unknown.join(' ')}; there are ${CONFIGURATIONS.map((c) => c.name).join(' ')}`,
  );
  process.exit(2);
}

let unexpected = 0;
for (const named of CONFIGURATIONS) {
  if (positionals.length > 0 && !positionals.includes(named.name)) continue;
  if (values.without !== undefined) {
    report(named, values.without.split(',').filter(isRule));
    continue;
  }
  if ((report(named, []).violation !== undefined) !== (named.isLimit ?? false)) unexpected++;
  if (values.kept) continue;
  for (const rules of named.takeOut) if (!report(named, rules).violation) unexpected++;
}
if (unexpected > 0) {
  console.log(`${unexpected} explorations did not end as they should`);
  process.exit(1);
}

function isRule(name: string): name is Rule {
  if (!(name in RULES)) throw new TypeError(`no such rule: ${name}; there are ${Object.keys(RULES).join(' ')}`);
  return true;
}

function report(named: Named, without: readonly Rule[]): Exploration {
  const result = explore(named.build(without), {
    maxStates: Number(values.max),
    onProgress: (states, depth) => process.stderr.write(`  ${named.name}: ${states} states, depth ${depth}\n`),
  });
  const how = without.length > 0 ? `without ${without.join(' and ')}` : 'all rules';
  const end = result.violation
    ? `violated after ${result.violation.trace.length} steps`
    : result.exhaustive
      ? 'holds, exhaustive'
      : 'holds up to the limit';
  const seconds = (result.elapsedMs / 1000).toFixed(1);
  console.log(`${named.name} | ${how} | ${result.states} states | depth ${result.depth} | ${end} | ${seconds} s`);
  if (result.violation && !values.quiet) {
    for (const rule of without) console.log(`    taken out: ${RULES[rule]}`);
    for (const [index, step] of result.violation.trace.entries()) console.log(`    ${index + 1}. ${step}`);
    console.log(`    => ${result.violation.invariant}: ${result.violation.message}`);
  }
  return result;
}
