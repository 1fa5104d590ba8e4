import { constants } from 'node:fs';
import { copyFile, stat } from 'node:fs/promises';
import { UsageError } from './command-line.ts';
import { bytes, count } from './figures.ts';
import { IMAGE_BYTES, makeImage } from './make-image.ts';
import type { ProgressView } from './progress-view.ts';
import type { DemoParts } from './run-demo.ts';

/** The disk, its copies at the instants, what is restored, and what is stored of it. */
const SPACE_FACTOR = 5;

/** The image that is written to: one made for the purpose, a copy of the user's, or the user's own. */
export async function prepareImage(
  { line, workspace, terminal }: DemoParts,
  view: ProgressView,
): Promise<{ readonly path: string; readonly description: string }> {
  const path = workspace.path('disk.img');
  if (line.image === undefined) {
    await workspace.requireSpace(SPACE_FACTOR * IMAGE_BYTES);
    const files = await makeImage({
      path,
      staging: workspace.path('staging'),
      signal: workspace.signal,
      onProgress: (what, done, total) => view.bar(what, done, total),
    });
    terminal.draw([]);
    return {
      path,
      description: `ext4, ${bytes(IMAGE_BYTES)}, made from ${count(files)} real files of this machine`,
    };
  }
  const info = await stat(line.image).catch(() => undefined);
  if (info?.isFile() !== true) throw new UsageError(`${line.image} is not a file`);
  await workspace.requireSpace(SPACE_FACTOR * info.size);
  const description = `${line.inPlace ? '' : 'a copy of '}${line.image}, ${bytes(info.size)}`;
  if (line.inPlace) return { path: line.image, description };
  await copyFile(line.image, path, constants.COPYFILE_FICLONE);
  return { path, description };
}
