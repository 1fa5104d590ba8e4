import { BackupError } from '../common/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { expectBytes, expectCode, expectEqual, expectThat, outcomeOf } from './conformance.ts';
import { content, type DeviceCase, doorsOf, fill, KIB, lacksWrites, pattern, sectors, turns } from './device-cases.ts';

/** Every call that takes a signal. Writes come last. */
function abortableCalls(
  device: BlockDevice,
  length: number,
): [name: string, (signal: AbortSignal) => Promise<unknown>][] {
  const { discard, writeZeroes, extents } = device;
  const calls: [name: string, (signal: AbortSignal) => Promise<unknown>][] = [
    ['read', (signal) => device.read(0, new Uint8Array(length), { signal })],
    ['flush', (signal) => device.flush({ signal })],
  ];
  if (extents) {
    calls.push([
      'extents',
      async (signal) => {
        for await (const _ of extents.call(device, 0, length, { signal }));
      },
    ]);
  }
  if (device.readOnly === true) return calls;
  calls.push(['write', (signal) => device.write(0, pattern(60, length), { signal })]);
  if (discard) calls.push(['discard', (signal) => discard.call(device, 0, length, { signal })]);
  if (writeZeroes) calls.push(['writeZeroes', (signal) => writeZeroes.call(device, 0, length, { signal })]);
  return calls;
}

const closeOf = (device: BlockDevice) => (device as BlockDevice & { close?(): Promise<void> }).close?.bind(device);

async function expectClosed(device: BlockDevice): Promise<void> {
  const bytes = () => new Uint8Array(device.sectorSize);
  for (const door of doorsOf(device)) {
    await expectCode(door.read(0, bytes()), 'CLOSED', `a read through ${door.name} after closing`);
    await expectCode(door.flush(), 'CLOSED', `a flush through ${door.name} after closing`);
    if (device.readOnly === true) continue;
    await expectCode(door.write(0, bytes()), 'CLOSED', `a write through ${door.name} after closing`);
  }
  if (device.readOnly === true) return;
  const { discard, writeZeroes } = device;
  if (discard) await expectCode(discard.call(device, 0, device.sectorSize), 'CLOSED', 'a discard after closing');
  if (writeZeroes) {
    await expectCode(writeZeroes.call(device, 0, device.sectorSize), 'CLOSED', 'a write-zeroes after closing');
  }
}

/** Cases about aborting and closing. */
export const deviceLifetimeCases: readonly DeviceCase[] = [
  {
    name: 'with a signal that has aborted already every call rejects with its reason and does nothing',
    async run(device) {
      const length = sectors(device, 8 * KIB);
      if (device.readOnly !== true) await fill(device, 0, pattern(61, length));
      const before = await content(device, 0, length);
      for (const reason of [new Error('the reason'), 'a reason that is no error']) {
        const signal = AbortSignal.abort(reason);
        for (const [name, call] of abortableCalls(device, length)) {
          const outcome = await outcomeOf(call(signal));
          expectThat(outcome.rejected && outcome.error === reason, `${name} did not reject with the signal's reason`);
        }
      }
      expectBytes(await content(device, 0, length), before, 'what is there after calls that never began');
    },
  },
  {
    name: 'a call that is aborted under way completes, or rejects with the reason',
    async run(device) {
      const length = sectors(device, 256 * KIB);
      for (const [name] of abortableCalls(device, length)) {
        for (let waited = 0; waited < 3; waited++) {
          const controller = new AbortController();
          const reason = new Error(`the reason of ${name}`);
          const call = abortableCalls(device, length).find((each) => each[0] === name)?.[1];
          const settled = outcomeOf(call?.(controller.signal) ?? Promise.resolve());
          await turns(waited);
          controller.abort(reason);
          const outcome = await settled;
          expectThat(!outcome.rejected || outcome.error === reason, `${name} rejected, not with the signal's reason`);
        }
      }
    },
  },
  {
    name: 'an aborted read does not touch its buffer once it has settled',
    async run(device) {
      const length = sectors(device, 256 * KIB);
      const buffers = Array.from({ length: 8 }, () => new Uint8Array(length));
      await Promise.all(
        buffers.map(async (buffer, index) => {
          const controller = new AbortController();
          const settled = outcomeOf(device.read(0, buffer, { signal: controller.signal }));
          await turns(index % 3);
          controller.abort();
          await settled;
          buffer.fill(0xc3);
        }),
      );
      await device.flush();
      await turns(16);
      await device[Symbol.asyncDispose]();
      await turns(4);
      for (const buffer of buffers) {
        const touched = buffer.findIndex((byte) => byte !== 0xc3);
        expectThat(touched < 0, `byte ${touched} of a buffer changed after its aborted read had settled`);
      }
    },
  },
  {
    name: 'an aborted write leaves old and new bytes in its range, and no bytes that its buffer held later',
    lacks: lacksWrites,
    async run(device) {
      const length = sectors(device, 256 * KIB);
      const old = new Uint8Array(length + 2 * device.sectorSize).fill(1);
      for (let waited = 0; waited < 4; waited++) {
        await fill(device, 0, old);
        const controller = new AbortController();
        const buffer = new Uint8Array(length).fill(2);
        const settled = outcomeOf(device.write(device.sectorSize, buffer, { signal: controller.signal }));
        await turns(waited);
        controller.abort();
        const { rejected } = await settled;
        buffer.fill(3);
        await device.flush();
        await turns(8);
        const seen = await content(device, 0, old.length);
        const inside = seen.subarray(device.sectorSize, device.sectorSize + length);
        expectThat(!inside.includes(3), 'the device used the buffer after the aborted write had settled');
        const strange = inside.findIndex((byte) => byte !== 2 && !(rejected && byte === 1));
        expectThat(strange < 0, `byte ${strange} of the write's range is ${inside[strange]}`);
        expectEqual([seen[0], seen.at(-1)], [1, 1], 'the bytes on both sides of an aborted write');
      }
    },
  },
  {
    name: 'its stamp names it, and has a later time once it was written later',
    lacks: (device) => (device.stamp ? undefined : 'there is no stamp'),
    async run(device) {
      const stamp = () => (device as Required<BlockDevice>).stamp();
      const first = await stamp();
      expectThat(typeof first.identity === 'string' && first.identity !== '', 'the identity is not a text');
      expectThat(Number.isFinite(first.version), 'the version is not a number');
      expectEqual(await stamp(), first, 'the stamp, where nothing was written in between');
      if (device.readOnly === true) return;
      await device.write(0, pattern(61, device.sectorSize));
      await device.flush();
      const { identity, version } = await stamp();
      expectEqual(identity, first.identity, 'the identity after a write');
      expectThat(version > first.version, 'the version after a write is not later');
    },
  },
  {
    name: 'closing may be repeated, and every later call rejects with CLOSED',
    lacks: (device) => (closeOf(device) ? undefined : 'there is no close'),
    async run(device) {
      if (device.readOnly !== true) await fill(device, 0, pattern(62, sectors(device, 8 * KIB)));
      await Promise.all([closeOf(device)?.(), closeOf(device)?.()]);
      await closeOf(device)?.();
      await expectClosed(device);
      await device[Symbol.asyncDispose]();
    },
  },
  {
    name: 'disposing closes, and may be repeated',
    async run(device) {
      await device[Symbol.asyncDispose]();
      await device[Symbol.asyncDispose]();
      if (closeOf(device)) await expectClosed(device);
    },
  },
  {
    name: 'calls in flight when it closes settle, and touch no buffer afterwards',
    lacks: lacksWrites,
    async run(device) {
      const length = sectors(device, 128 * KIB);
      await fill(device, 0, pattern(63, length));
      const buffers = Array.from({ length: 8 }, () => new Uint8Array(length));
      const reads = buffers.map(async (buffer) => {
        const { rejected, error } = { error: undefined, ...(await outcomeOf(device.read(0, buffer))) };
        if (rejected)
          expectThat(BackupError.is(error), 'a read was ended by closing with an error that is not a BackupError');
        else expectBytes(buffer, pattern(63, length), 'a read that was in flight when the device closed');
        buffer.fill(0xb4);
      });
      await Promise.all([...reads, device[Symbol.asyncDispose]()]);
      await turns(16);
      for (const buffer of buffers) {
        const touched = buffer.findIndex((byte) => byte !== 0xb4);
        expectThat(touched < 0, `byte ${touched} of a buffer changed after its read had settled`);
      }
    },
  },
];
