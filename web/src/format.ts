// Sizes, lengths, times and languages, as people write them in English.

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** 5368709120 → "5 GB". Powers of 1,024, as file managers and the server's limit count. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.5 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, "")} ${UNITS[unit]}`;
}

/** 5025.7 seconds → "1:23:45": the second that has begun, for a clock must not run ahead. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** 5025.7 → "1 hour 23 minutes 45 seconds". */
export function spokenTime(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 3600), "hour"],
    [Math.floor(whole / 60) % 60, "minute"],
    [whole % 60, "second"],
  ];
  const told = parts.filter(([count]) => count > 0);
  if (told.length === 0) return "0 seconds";
  return told.map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`).join(" ");
}

/** How long a recording is, to the nearest second: 65 → "1:05". */
export function length(seconds: number): string {
  return clock(Math.round(seconds));
}

/** How long something will take, as coarse as such a guess is. */
export function timeLeft(seconds: number): string {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 3570) return `${Math.round(seconds / 60)} min left`;
  const minutes = Math.round(seconds / 300) * 5;
  const rest = minutes % 60;
  const hours = (minutes - rest) / 60;
  return rest > 0 ? `${hours} h ${rest} min left` : `${hours} h left`;
}

/** "just now", "5 minutes ago", "yesterday", and the date when that says more. */
export function when(iso: string, now = Date.now()): string {
  const date = new Date(iso);
  const seconds = (now - date.getTime()) / 1000;
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  if (seconds < 50) return "just now";
  if (seconds < 50 * 60) return relative.format(-Math.max(1, Math.round(seconds / 60)), "minute");
  if (seconds < 22 * 3600) return relative.format(-Math.max(1, Math.round(seconds / 3600)), "hour");
  if (seconds < 6.5 * 86400) return relative.format(-Math.max(1, Math.round(seconds / 86400)), "day");
  const sameYear = date.getFullYear() === new Date(now).getFullYear();
  return date.toLocaleDateString("en", {
    day: "numeric",
    month: "short",
    ...(sameYear ? {} : { year: "numeric" }),
  });
}

const languages = new Intl.DisplayNames("en", { type: "language", fallback: "code" });

// Where Intl knows no name, or one that few would look for.
const NAMES: Record<string, string> = { jw: "Javanese", zh: "Chinese" };

/** "de" → "German". */
export function language(code: string): string {
  return NAMES[code] ?? languages.of(code) ?? code;
}
