// Addresses of the page: `/` and `/t/{id}`. Links within it change the screen and load nothing.

const listeners = new Set<() => void>();

/** Go to a path of the page, as a link would. */
export function navigate(path: string): void {
  const before = location.pathname;
  history.pushState(null, "", path);
  if (location.pathname !== before) scrollTo(0, 0);
  for (const listener of listeners) listener();
}

/** Call when the address has changed: by `navigate`, by a link, or by the browser's buttons. */
export function onNavigate(listener: () => void): void {
  listeners.add(listener);
}

/** The transcription that the address is about, null on the first screen. */
export function transcriptionInAddress(): string | null {
  const match = /^\/t\/([^/]+)\/?$/.exec(location.pathname);
  if (match?.[1] === undefined) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    // No address of ours: it is looked for as it stands, and not found.
    return match[1];
  }
}

function isPage(url: URL): boolean {
  return url.origin === location.origin && (url.pathname === "/" || url.pathname.startsWith("/t/"));
}

addEventListener("popstate", () => {
  for (const listener of listeners) listener();
});

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link?.href || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (!isPage(url)) return;
  // Within one document, fragments are the browser's own business.
  if (url.hash && url.pathname === location.pathname) return;
  event.preventDefault();
  navigate(url.pathname + url.search + url.hash);
});
