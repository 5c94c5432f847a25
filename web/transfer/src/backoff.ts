// Pauses between tries: they double up to a longest one, and chance shortens them, to spread clients out.

const FIRST_MS = 300;
export const LONGEST_MS = 15_000;

/** The pause after so many failures in a row, from 1, in milliseconds. */
export function backoff(failures: number, random: () => number = Math.random): number {
  const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16));
  return longest * (0.5 + random() / 2);
}

/** Wait, but not once the connection has come back. Raises the signal's reason. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (end: () => void) => () => {
      clearTimeout(timer);
      removeEventListener("online", back);
      signal.removeEventListener("abort", aborted);
      end();
    };
    const back = over(resolve);
    const aborted = over(() => reject(signal.reason as Error));
    const timer = setTimeout(back, milliseconds);
    addEventListener("online", back);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
  });
}
