import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshBucket, s3, s3Client } from '../support/s3.ts';
import { docExamples } from './support/doc-examples.ts';
import { AMBIENT_TYPES, folderWithPackage, PAGES, pageText, root, type Sample, samplesOf } from './support/samples.ts';

/**
 * The code of README.md, the guides and the TSDoc, as it stands there: compiled under strict settings. That of the documents
 * is run as well.
 */

const samples = PAGES.flatMap((page) => samplesOf(page));
const examples = docExamples().map((example, index) => ({ ...example, name: `example-${index}-${example.subject}` }));
const [first] = samplesOf('README.md') as [Sample];
const sampleWith = (text: string) => samples.find(({ code }) => code.includes(text)) as Sample;
const stopping = sampleWith("process.once('SIGTERM'");
const disaster = sampleWith('function restoreNewest');
const method = sampleWith('const baseline = snapshot.states.clone()');
let folder: string;

beforeAll(() => {
  folder = folderWithPackage('readme-');
  for (const { name, code } of [...samples, ...examples])
    writeFileSync(join(folder, `${name}.ts`), `${code}\nexport {};\n`);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('all samples and examples compile under strict settings', () => {
  writeFileSync(join(folder, 'ambient.d.ts'), AMBIENT_TYPES);
  const compilerOptions = {
    target: 'es2024',
    lib: ['es2024', 'esnext.disposable', 'esnext.array'],
    module: 'nodenext',
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    types: ['node'],
    noEmit: true,
  };
  const files = ['ambient.d.ts', ...[...samples, ...examples].map(({ name }) => `${name}.ts`)];
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  let printed = '';
  try {
    printed = execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'], {
      cwd: folder,
      encoding: 'utf8',
    });
  } catch (error) {
    printed = (error as { stdout: string }).stdout;
  }
  expect(samples.length).toBeGreaterThanOrEqual(30);
  expect(printed).toBe('');
});

test('each entry point of the library has an example in its TSDoc', () => {
  const subjects = new Set(examples.map(({ subject }) => subject));
  const wanted = [
    'BackupRepository',
    'BackupRepository.open',
    'BlockStateMap',
    'CopyOnWriteVolume',
    'CopyOnWriteVolume.open',
    'FileDevice.open',
    'FileTarget',
    'MemoryDevice',
    'MemoryTarget',
    'S3Target',
    'deviceConformance',
    'fanOut',
    'syncDevice',
    'targetConformance',
    'withRetries',
  ];
  expect(wanted.filter((subject) => !subjects.has(subject))).toEqual([]);
});

/** The samples that a test of their own runs. */
const runAlone = [first.name, stopping.name, disaster.name];

test('all samples run, the method restores its instant, and the target of one screen lacks just what its page says', () => {
  const program = join(root, 'test/package/support/run-samples.ts');
  const names = samples.map(({ name }) => name).filter((name) => !runAlone.includes(name));
  const printed = execFileSync(process.execPath, [program, ...names], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 120_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const failed = JSON.parse(printed.trim().split('\n').at(-1) as string) as Record<string, string[]>;
  expect(Object.keys(failed)).toEqual(names);
  const target = sampleWith('targetConformance(');
  const { [target.name]: lacking = [], ...others } = failed;
  expect(Object.values(others).flat()).toEqual([]);
  expect(lacking.length).toBeGreaterThan(0);
  expect(lacking.filter((name) => !/key|abort|closed/i.test(name))).toEqual([]);
  const instant = Buffer.alloc(1 << 20).fill(1, 0, 300_000);
  expect(readFileSync(join(folder, `run-${method.name}`, 'restored.img')).equals(instant)).toBe(true);
});

test('the first sample backs up and restores, and the one for disasters restores what it has stored', () => {
  const image = Buffer.alloc(5 * 65536 + 1000, 'content');
  image.fill(0, 65536, 2 * 65536);
  writeFileSync(join(folder, 'disk.img'), image);
  execFileSync(process.execPath, [`${first.name}.ts`], { cwd: folder });
  expect(readFileSync(join(folder, 'restored.img')).equals(image)).toBe(true);
  const call = "await restoreNewest('backups', 'correct horse battery staple');";
  writeFileSync(join(folder, 'disaster.ts'), `${disaster.code}\n${call}`);
  execFileSync(process.execPath, ['disaster.ts'], { cwd: folder });
  expect(readFileSync(join(folder, 'disk.restored.img')).equals(image)).toBe(true);
});

test.skipIf(s3 === null)('and does so against a real gateway', async () => {
  const image = Buffer.alloc(5 * 65536 + 1000, 'content of another disk');
  writeFileSync(join(folder, 'disk.img'), image);
  rmSync(join(folder, 'restored.img'), { force: true });
  const { endPoint, port, useSSL, accessKey, secretKey } = s3 as NonNullable<typeof s3>;
  const client = { endPoint, port, useSSL, accessKey, secretKey, region: 'us-east-1' };
  const bucket = await freshBucket(s3Client());
  const code = first.code.replace(
    "new FileTarget('backups')",
    `new S3Target({ client: new Client(${JSON.stringify(client)}), bucket: '${bucket}' })`,
  );
  expect(code).not.toBe(first.code);
  const imports = "import { Client } from 'minio';\nimport { S3Target } from 'cow-cloud-backup/s3';\n";
  writeFileSync(join(folder, 'gateway.ts'), imports + code);
  execFileSync(process.execPath, ['gateway.ts'], { cwd: folder });
  expect(readFileSync(join(folder, 'restored.img')).equals(image)).toBe(true);
});

test('the program of the guide to containers gives its backup up at SIGTERM, and ends by itself', async () => {
  // A lazy job goes on until something ends it; what keeps the process alive is the host's own work.
  const host = "const host = setInterval(() => {}, 1000); signal.addEventListener('abort', () => clearInterval(host));";
  const lazy = stopping.code
    .replace('job.sweep();', `console.log('begun'); ${host}`)
    .replace("'backups'", "'stopped-backups'");
  expect(lazy).toContain("console.log('begun')");
  writeFileSync(join(folder, 'stopped.ts'), lazy);
  writeFileSync(join(folder, 'disk.img'), Buffer.alloc(5 * 65536, 'content'));
  const child = spawn(process.execPath, ['stopped.ts'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  child.stderr.resume();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (!printed.includes('begun') && `${printed}${text}`.includes('begun')) child.kill('SIGTERM');
    printed += text;
  });
  const [exitCode] = (await once(child, 'close')) as [number | null];
  expect({ exitCode, printed }).toEqual({ exitCode: 0, printed: 'begun\ngiven up: stopped by SIGTERM\n' });
});

test('README.md has fewer than 900 words, and says on its first screens what was never run', () => {
  const words = pageText('README.md')
    .replace(/```.*?```/gs, '')
    .split(/\s+/);
  expect(words.length).toBeLessThan(900);
  const screens = pageText('README.md').split('\n').slice(0, 60).join('\n');
  expect(screens).toMatch(/macOS and Windows is written to documentation, and untested/);
});

describe('documents', () => {
  const folders = ['docs', 'docs/guides', 'docs/decisions'];
  const documents = folders.flatMap((path) =>
    readdirSync(join(root, path))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `${path}/${name}`),
  );

  test('link to what is there', () => {
    const broken: string[] = [];
    for (const page of ['README.md', 'CONTRIBUTING.md', 'bench/README.md', ...documents]) {
      const text = pageText(page).replace(/```.*?```|`[^`\n]*`/gs, '');
      for (const [, link = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(link)) continue;
        const [path = '', anchor] = link.split('#');
        const file = path === '' ? join(root, page) : join(root, dirname(page), path);
        const isThere = existsSync(file) && (anchor === undefined || anchorsOf(file).includes(anchor));
        if (!isThere) broken.push(`${page}: ${link}`);
      }
    }
    expect(broken).toEqual([]);
  });

  test('are all in the index', () => {
    const index = pageText('docs/README.md');
    const missing = documents.filter(
      (path) =>
        path !== 'docs/README.md' && !path.startsWith('docs/decisions/') && !index.includes(`](${path.slice(5)})`),
    );
    expect(missing).toEqual([]);
  });
});

/** What the headings of a document can be linked to by, as GitHub makes it. */
function anchorsOf(file: string): string[] {
  if (statSync(file).isDirectory()) return [];
  return [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{Letter}\p{Number}\s_-]/gu, '')
      .replace(/\s/g, '-'),
  );
}
