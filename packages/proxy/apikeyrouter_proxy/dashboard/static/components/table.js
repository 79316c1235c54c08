// A table of any length: it sorts by its columns and draws only the rows that are in sight.
//
// `columns`: [{ name, title, of: row => shown, sort?: row => number or text, kind?: "number" | "text", hide?: "phone" }].
// `rows`: objects; `id(row)`: unique. `onOpen(row)`: a row can be opened by click, Enter or space. The browser scrolls
// the page, not the table; rows have one height, so that what is out of sight is an empty block of the right size.

import { html, useEffect, useMemo, useRef, useState } from "../lib/preact.js";

const ROW_PX = 41;
const SPARE = 12;
const WHOLE_MAX = 120;

function inSight(element, total) {
  if (!element || total <= WHOLE_MAX) return [0, total];
  const top = element.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / ROW_PX) - SPARE);
  const last = Math.min(total, Math.ceil((innerHeight - top) / ROW_PX) + SPARE);
  return [Math.min(first, total), Math.max(last, Math.min(first, total))];
}

export function Table({ columns, rows, id, onOpen, label, initialSort = null, rowClass }) {
  const [sort, setSort] = useState(initialSort);
  const [sight, setSight] = useState([0, Math.min(rows.length, WHOLE_MAX)]);
  const body = useRef(null);
  const sorted = useMemo(() => {
    const column = sort && columns.find((one) => one.name === sort.name);
    if (!column) return rows;
    const value = column.sort ?? column.of;
    const order = sort.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === y) return 0;
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return (x < y ? -1 : 1) * order;
    });
  }, [rows, sort, columns]);
  useEffect(() => {
    const update = () =>
      setSight((before) => {
        const now = inSight(body.current, rows.length);
        return now[0] === before[0] && now[1] === before[1] ? before : now;
      });
    update();
    addEventListener("scroll", update, { passive: true });
    addEventListener("resize", update);
    return () => {
      removeEventListener("scroll", update);
      removeEventListener("resize", update);
    };
  }, [rows.length]);
  const [first, last] = rows.length <= WHOLE_MAX ? [0, rows.length] : [Math.min(sight[0], rows.length), Math.min(sight[1], rows.length)];
  const press = (event, row) => {
    if (event.target.closest("a,button,input,select") && event.target !== event.currentTarget) return;
    if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    onOpen(row);
  };
  const turn = (column) =>
    setSort((before) => ({ name: column.name, down: before?.name === column.name ? !before.down : column.kind === "number" }));
  return html`<div class="table"><table aria-label=${label} aria-rowcount=${rows.length + 1}>
    <thead><tr>
      ${columns.map((column) => {
        const mine = sort?.name === column.name;
        const sorts = column.sort || column.kind;
        return html`<th key=${column.name} scope="col" class=${classes(column)} aria-sort=${mine ? (sort.down ? "descending" : "ascending") : undefined}>
          ${sorts ? html`<button type="button" onClick=${() => turn(column)}>${column.title}<span aria-hidden="true">${mine ? (sort.down ? " ↓" : " ↑") : ""}</span></button>` : column.title}
        </th>`;
      })}
    </tr></thead>
    <tbody ref=${body}>
      ${first > 0 && html`<tr key="above" aria-hidden="true" class="gap"><td colspan=${columns.length} style=${{ height: first * ROW_PX + "px" }}></td></tr>`}
      ${sorted.slice(first, last).map((row, index) => html`
        <tr key=${id(row)} aria-rowindex=${first + index + 2} class=${(onOpen ? "opens " : "") + (rowClass?.(row) ?? "")}
            tabindex=${onOpen ? 0 : undefined} onClick=${onOpen && ((event) => press(event, row))} onKeyDown=${onOpen && ((event) => press(event, row))}>
          ${columns.map((column) => html`<td key=${column.name} class=${classes(column)}>${column.of(row)}</td>`)}
        </tr>`)}
      ${last < rows.length && html`<tr key="below" aria-hidden="true" class="gap"><td colspan=${columns.length} style=${{ height: (rows.length - last) * ROW_PX + "px" }}></td></tr>`}
    </tbody>
  </table></div>`;
}

const classes = (column) => [column.kind === "number" && "number", column.hide && "hide-" + column.hide].filter(Boolean).join(" ") || undefined;
