/**
 * What a device answers when a call was done before it returned. A caller that keeps count of calls in flight
 * may compare by identity and save itself the bookkeeping: that is what makes a volume over memory cost a few
 * nanoseconds a write.
 */
export const SETTLED: Promise<void> = Promise.resolve();
