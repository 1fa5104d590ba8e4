import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freshBucket, s3, s3Client } from '../support/s3.ts';

/** The README's code, as it stands there: compiled under strict settings, and run where it stands alone. */

const root = join(import.meta.dirname, '../..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const samples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code as string);
const sampleWith = (text: string) => samples.find((code) => code.includes(text)) as string;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'readme-'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), readFileSync(join(root, 'package.json')));
  symlinkSync(join(root, 'dist'), join(folder, 'dist'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('all samples compile under strict settings', () => {
  const hosts = `
declare global {
  const store: { pages: number; load(page: number, into: Uint8Array): void; save(page: number, from: Uint8Array): void; fsync(): void };
  function test(name: string, run: (context: { skip(reason?: string): void }) => Promise<void>): void;
}
`;
  const suite = `${sampleWith('class MapTarget')}\n${sampleWith('targetConformance')}`;
  const files = [...samples.filter((code) => !code.includes('targetConformance(')), suite].map((code, index) => {
    const name = `sample-${index}.ts`;
    writeFileSync(join(folder, name), `${code}\nexport {};\n`);
    return name;
  });
  writeFileSync(join(folder, 'hosts.d.ts'), `${hosts}\nexport {};\n`);
  const compilerOptions = {
    target: 'es2024',
    lib: ['es2024', 'esnext.disposable'],
    module: 'nodenext',
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    types: ['node'],
    noEmit: true,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['hosts.d.ts', ...files] }));
  let printed = '';
  try {
    printed = execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'], {
      cwd: folder,
      encoding: 'utf8',
    });
  } catch (error) {
    printed = (error as { stdout: string }).stdout;
  }
  expect(samples.length).toBeGreaterThanOrEqual(5);
  expect(printed).toBe('');
});

test('the first sample backs up and restores', () => {
  const image = Buffer.alloc(5 * 65536 + 1000, 'content');
  image.fill(0, 65536, 2 * 65536);
  writeFileSync(join(folder, 'disk.img'), image);
  writeFileSync(join(folder, 'first.ts'), samples[0] as string);
  execFileSync(process.execPath, ['first.ts'], { cwd: folder });
  expect(readFileSync(join(folder, 'restored.img')).equals(image)).toBe(true);
});

test.skipIf(s3 === null)('and does so against a real gateway', async () => {
  const image = Buffer.alloc(5 * 65536 + 1000, 'content of another disk');
  writeFileSync(join(folder, 'disk.img'), image);
  rmSync(join(folder, 'restored.img'), { force: true });
  const { endPoint, port, useSSL, accessKey, secretKey } = s3 as NonNullable<typeof s3>;
  const client = { endPoint, port, useSSL, accessKey, secretKey, region: 'us-east-1' };
  const bucket = await freshBucket(s3Client());
  const code = (samples[0] as string).replace(
    "new FileTarget('backups')",
    `new S3Target({ client: new Client(${JSON.stringify(client)}), bucket: '${bucket}' })`,
  );
  expect(code).not.toBe(samples[0]);
  const imports = "import { Client } from 'minio';\nimport { S3Target } from 'cow-cloud-backup/s3';\n";
  writeFileSync(join(folder, 'gateway.ts'), imports + code);
  execFileSync(process.execPath, ['gateway.ts'], { cwd: folder });
  expect(readFileSync(join(folder, 'restored.img')).equals(image)).toBe(true);
});

test('the target of one screen lacks just what the README says', async () => {
  const code = `${sampleWith('class MapTarget')}
import { targetConformance } from 'cow-cloud-backup/testing';
const failed: string[] = [];
for (const { name, run } of targetConformance({ open: async () => new MapTarget() })) {
  await run({ skip() {} }).catch(() => failed.push(name));
}
console.log(JSON.stringify(failed));`;
  writeFileSync(join(folder, 'suite.ts'), code);
  const failed = JSON.parse(
    execFileSync(process.execPath, ['suite.ts'], { cwd: folder, encoding: 'utf8' }),
  ) as string[];
  expect(failed.length).toBeGreaterThan(0);
  expect(failed.filter((name) => !/key|abort|closed/i.test(name))).toEqual([]);
});
