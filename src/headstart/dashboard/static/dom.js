// Making and updating elements. What comes from the server becomes text, never markup.

/** An element: `make("td", {class: "number"}, "12")`. Children are nodes or strings; null children are left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** Put a text into an element, if it isn't there already. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The width of a bar, as a share of 1 of its track. */
export function fillBar(element, share) {
  element.style.width = `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(2)}%`;
}

/**
 * Make a parent's children those of `items`, in their order. A child is known by its key (`data-key`) and kept, so that
 * focus and opened details survive an update.
 */
export function reconcile(parent, items, keyOf, build, update) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const seen = new Map();
  const children = items.map((item) => {
    const name = String(keyOf(item));
    const times = seen.get(name) ?? 0;
    seen.set(name, times + 1);
    const key = times ? `${name} #${times + 1}` : name;
    const child = before.get(key) ?? build(item);
    child.dataset.key = key;
    before.delete(key);
    update(child, item);
    return child;
  });
  for (const gone of before.values()) gone.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/**
 * A table's rows. A column is `{name, label, cell, number}`: `cell(item)` gives a string, or a node; the first column
 * is the row's header. On a phone a row becomes a card, and `data-label` stands before each value.
 */
export function rows(body, items, keyOf, columns) {
  reconcile(
    body,
    items,
    keyOf,
    () => make("tr", { role: "row" }, ...columns.map((column, at) => cellOf(column, at === 0))),
    (row, item) => columns.forEach((column, at) => put(row.children[at], column.cell(item))),
  );
}

/**
 * A table without rows; its body is `.tBodies[0]`. The roles are those that its elements have anyway, for browsers that
 * forget them where a phone's style shows rows as cards.
 */
export function table(caption, columns) {
  const heads = columns.map((column) =>
    make("th", { role: "columnheader", scope: "col", class: column.number && "number" }, column.label),
  );
  return make(
    "table",
    { role: "table" },
    make("caption", { class: "unseen" }, caption),
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
    make("tbody", { role: "rowgroup" }),
  );
}

/** Put a string or a node into a cell; what is the same stays, and with it what the reader has selected. */
export function put(cell, content) {
  if (typeof content === "string") write(cell, content);
  else if (!cell.firstChild?.isEqualNode(content)) cell.replaceChildren(content);
}

function cellOf(column, header) {
  return make(header ? "th" : "td", {
    role: header ? "rowheader" : "cell",
    scope: header && "row",
    class: column.number && "number",
    "data-label": column.label,
    "data-column": column.name,
  });
}
