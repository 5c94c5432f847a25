// Elements of the page, made without markup in strings, so that no text can become markup.

type Child = Node | string | null | undefined | false;
type Properties = Record<string, unknown>;

/**
 * A new element. Properties that begin with `on` are listeners; `class`, `aria-*`, `data-*` and all that the
 * element does not know are attributes (true: there, false or null: not there); the others are set on it.
 */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on") && typeof value === "function") {
      made.addEventListener(key.slice(2), value as EventListener);
    } else if (key in made && !key.includes("-")) {
      (made as unknown as Properties)[key] = value;
    } else {
      made.setAttribute(key, value === true ? "" : String(value));
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}
