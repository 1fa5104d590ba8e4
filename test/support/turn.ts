/** Lets everything that waits for nothing but its turn run. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
