/**
 * A process of its own that opens a device, says what became of it, and holds it until it is killed or its standard
 * input ends. Arguments: the path, the options as JSON.
 */
import { BackupError } from '../../../src/common/errors.ts';
import { FileDevice } from '../../../src/device/file-device.ts';

const [path, options] = process.argv.slice(2) as [string, string];
try {
  const device = await FileDevice.open(path, JSON.parse(options));
  process.stdout.write('open\n');
  process.stdin.resume();
  process.stdin.on('end', () => device.close());
} catch (error) {
  process.stdout.write(`${BackupError.is(error) ? `${error.code}\t${error.message}` : String(error)}\n`);
}
