// The address of a moment of a recording.

/** The `t` of an address, in seconds; null where there is none that can be used. */
export function momentIn(query: string): number | null {
  const given = new URLSearchParams(query).get("t");
  const seconds = given === null || given.trim() === "" ? NaN : Number(given);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/** `/t/{id}?t=83.2`. */
export function permalink(id: string, seconds: number): string {
  return `/t/${encodeURIComponent(id)}?t=${Number(seconds.toFixed(1))}`;
}
