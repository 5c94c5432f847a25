// Small line drawings, 20 units wide, in the colour of the text beside them.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  pause: ["M7 5v10", "M13 5v10"],
  resume: ["M7 4.8v10.4L15.4 10Z"],
  close: ["M5.5 5.5l9 9", "M14.5 5.5l-9 9"],
  trash: ["M4 6h12", "M8 6V4h4v2", "M5.8 6l.7 10h7l.7-10", "M8.6 9v4.4", "M11.4 9v4.4"],
  again: ["M15.5 8.2A6 6 0 1 0 16 11", "M16 4.2v4h-4"],
  file: ["M5.5 3.5h6l3.5 3.5v9.5h-9.5Z", "M11.5 3.5v3.5h3.5"],
  check: ["M4.5 10.5l3.6 3.6 7.4-8"],
  clock: ["M10 3.5a6.5 6.5 0 1 0 .01 0Z", "M10 6.5V10l2.4 1.6"],
  alert: ["M10 3.2 17.4 16H2.6Z", "M10 8v3.6", "M10 13.8v.01"],
  up: ["M10 15.5v-11", "M5.5 9 10 4.5 14.5 9"],
  wave: ["M3.5 8.5v3", "M6.7 6v8", "M10 3.5v13", "M13.3 6v8", "M16.5 8.5v3"],
  stop: ["M10 3.5a6.5 6.5 0 1 0 .01 0Z", "M5.5 14.5l9-9"],
  signOut: ["M8 4H4.5v12H8", "M8.5 10h8", "M13.5 7l3 3-3 3"],
  eye: [
    "M2.5 10S5.2 5.2 10 5.2 17.5 10 17.5 10 14.8 14.8 10 14.8 2.5 10 2.5 10Z",
    "M10 8a2 2 0 1 0 .01 0Z",
  ],
  play: ["M7 4.8v10.4L15.4 10Z"],
  back: ["M5.2 6.8A6.3 6.3 0 1 1 3.7 10.6", "M4.7 3.6v3.5h3.5"],
  forward: ["M14.8 6.8A6.3 6.3 0 1 0 16.3 10.6", "M15.3 3.6v3.5h-3.5"],
  volume: ["M3.5 8v4h2.7l3.8 3.2V4.8L6.2 8Z", "M12.8 7.4a3.7 3.7 0 0 1 0 5.2", "M15 5.2a6.8 6.8 0 0 1 0 9.6"],
  muted: ["M3.5 8v4h2.7l3.8 3.2V4.8L6.2 8Z", "M13 8l4 4", "M17 8l-4 4"],
  link: [
    "M8.4 11.6a3 3 0 0 0 4.3 0l2.6-2.6a3 3 0 0 0-4.3-4.3l-1 1",
    "M11.6 8.4a3 3 0 0 0-4.3 0l-2.6 2.6a3 3 0 0 0 4.3 4.3l1-1",
  ],
  copy: ["M7.5 7.5h8v8h-8Z", "M12.5 7.5v-3h-8v8h3"],
  download: ["M10 4v8.5", "M6.3 9 10 12.7 13.7 9", "M4.5 15.8h11"],
  search: ["M9 4a5 5 0 1 0 .01 0Z", "M12.7 12.7l3.6 3.6"],
  previous: ["M5.5 12.3 10 7.8l4.5 4.5"],
  next: ["M5.5 7.8 10 12.3l4.5-4.5"],
  pencil: ["M4.5 15.5l.7-3.2 8-8 2.5 2.5-8 8Z", "M11.4 6.1l2.5 2.5"],
  keyboard: ["M3 6h14v8.5H3Z", "M6 9v.01", "M9 9v.01", "M12 9v.01", "M14.5 9v.01", "M6.8 11.8h6.4"],
  left: ["M12.2 5.5 7.7 10l4.5 4.5"],
} as const;

export type IconName = keyof typeof PATHS;

/** A drawing without a meaning of its own: what it says must also be there in words. */
export function icon(name: IconName, size = 20): SVGSVGElement {
  const drawing = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 20 20", width: size, height: size, "aria-hidden": "true" };
  for (const [key, value] of Object.entries(attributes)) drawing.setAttribute(key, String(value));
  drawing.setAttribute("class", "icon");
  for (const path of PATHS[name]) {
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path);
    drawing.append(line);
  }
  return drawing;
}
