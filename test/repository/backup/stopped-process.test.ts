import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { floorSeq, type LogState } from '../../../src/repository/format/log-state.ts';
import { FileTarget } from '../../../src/targets/file/file-target.ts';
import { folderForFile } from '../../support/folders.ts';
import { randomForTest, testSeed, times } from '../../support/randomness.ts';
import { host } from '../log/support/hosts.ts';
import { deleteBelow, grow, raiseFloor } from '../log/support/pruned-log.ts';
import { createIn, openIn } from '../support/repositories.ts';

/**
 * A process that is stopped (SIGSTOP) at any moment while it makes backups, and goes on after others have written and pruned the
 * log: what it says of its backups is true, and what it leaves at deleted numbers is part of nothing.
 */

interface Word {
  readonly id?: string;
  readonly failed?: string;
}

const PROGRAM = fileURLToPath(new URL('./support/stopped-program.ts', import.meta.url));
const STOPS = times(2);
const root = folderForFile();

test.runIf(process.platform !== 'win32')(
  'a stopped process goes on after its entries were deleted',
  { timeout: 120_000 },
  async () => {
    const random = randomForTest(testSeed());
    const folder = `${root}/repository`;
    await using target = new FileTarget(folder);
    await (await createIn(target)).close();
    const flags = ['--experimental-strip-types', '--disable-warning=ExperimentalWarning'];
    const child = spawn(process.execPath, [...flags, PROGRAM, folder], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const words: Word[] = [];
    const lines = createInterface({ input: child.stdout }).on('line', (line) => words.push(JSON.parse(line) as Word));
    const untilSaid = async (count: number) => {
      while (words.length < count) await once(lines, 'line');
    };
    try {
      const writer = await host(target);
      await untilSaid(1);
      for (let stop = 0; stop < STOPS; stop++) {
        await setTimeout(random() * 20);
        child.kill('SIGSTOP');
        const before = floorSeq(await writer.catchUp());
        let state: LogState | undefined;
        while (state === undefined) {
          await grow(writer, 40);
          state = await raiseFloor(writer);
        }
        expect(floorSeq(state)).toBeGreaterThan(before);
        // Some of it stays for now, as where the other process is killed while it deletes.
        await deleteBelow(target, state, () => random() < 0.2);
        const said = words.length;
        child.kill('SIGCONT');
        await untilSaid(said + 2);
      }
    } finally {
      child.kill('SIGKILL');
    }
    await once(child, 'close');
    await using repository = await openIn(target);
    const listed = new Set((await Array.fromAsync(repository.listBackups())).map(({ id }) => id));
    for (const { id, failed } of words) {
      if (id === undefined || failed === 'COMMIT_UNKNOWN') continue;
      expect(listed.has(id), `${id} ${failed ?? 'was reported'}`).toBe(failed === undefined);
    }
    expect(words.filter(({ failed }) => failed === undefined).length).toBeGreaterThan(STOPS);
    const { ok } = await repository.verify({ depth: 'structure' });
    expect(ok).toBe(true);
  },
);
