// A table of any length and width: it sorts by its columns, draws only the rows that are in sight, and leaves out the least
// important columns where there is no room for all of them (a button in its head brings them back).
//
// `columns`: [{ name, title, of: row => shown, sort?: row => number or text, kind?: "number" | "text", wrap?: true, hide?:
// "narrow" | "tablet" | "phone" }]. Columns with `hide` are left out first: those of "narrow" before those of "tablet", and
// so on, from the right. `wrap`: its text may take several lines. `rows`: objects; `id(row)`: unique. `onOpen(row)`: a row
// can be opened by click, Enter or space. The browser scrolls the page, not the table; where there are many rows they have
// one height, so that what is out of sight is an empty block of the right size.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../lib/preact.js";

const ROW_PX = 41;
const SPARE = 12;
const WHOLE_MAX = 40;
const GOES_FIRST = ["narrow", "tablet", "phone"];

/** Names of columns in the order in which they are left out. */
const leavingOf = (columns) =>
  GOES_FIRST.flatMap((size) => columns.filter((column) => column.hide === size).reverse().map((column) => column.name));

/** Which columns have room: `{ place, shown, left, tight, all, setAll }`. Columns keep the widths that their text needs, so
 * that one look at a table that is too wide tells how many have to go. */
function useFitting(columns, rows) {
  const place = useRef(null);
  const leaving = useMemo(() => leavingOf(columns), [columns]);
  const [gone, setGone] = useState(0);
  const [tight, setTight] = useState(false);
  const [all, setAll] = useState(false);
  useEffect(() => {
    let width = place.current.clientWidth;
    const resized = new ResizeObserver(() => {
      const now = place.current?.clientWidth ?? width;
      if (now === width) return;
      if (now > width) setTight(false);
      if (now > width) setGone(0);
      else setGone((before) => Math.max(0, before - 1)); // looks again
      width = now;
    });
    resized.observe(place.current);
    return () => resized.disconnect();
  }, []);
  useLayoutEffect(() => {
    const box = place.current;
    let over = box.scrollWidth - box.clientWidth - 1;
    if (over <= 0 || all) return;
    let more = gone;
    while (over > 0 && more < leaving.length) {
      over -= box.querySelector(`th[data-name="${leaving[more]}"]`)?.offsetWidth ?? 0;
      more += 1;
    }
    if (more > gone) setGone(more);
    else if (!tight) setTight(true);
  }, [rows, columns, gone, all, tight]);
  const left = all ? [] : leaving.slice(0, gone);
  const shown = left.length ? columns.filter((column) => !left.includes(column.name)) : columns;
  return { place, shown, left: columns.filter((column) => left.includes(column.name)), tight: tight && !all, all, setAll, foldable: gone > 0 };
}

function inSight(element, total) {
  if (!element || total <= WHOLE_MAX) return [0, total];
  const top = element.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / ROW_PX) - SPARE);
  const last = Math.min(total, Math.ceil((innerHeight - top) / ROW_PX) + SPARE);
  return [Math.min(first, total), Math.max(last, Math.min(first, total))];
}

export function Table({ columns, rows, id, onOpen, label, initialSort = null, rowClass }) {
  const [sort, setSort] = useState(initialSort);
  const [sight, setSight] = useState([0, Math.min(rows.length, Math.ceil(innerHeight / ROW_PX))]);
  const body = useRef(null);
  const { place, shown, left, tight, all, setAll, foldable } = useFitting(columns, rows);
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
  const names = left.map((column) => column.title).join(", ");
  const others = foldable && html` <button type="button" class="others" aria-expanded=${all} onClick=${() => setAll(!all)}
    title=${all ? "Show what fits" : `Show ${names} too`} aria-label=${all ? "− columns: only those that fit" : `+${left.length} columns: ${names}`}>${all ? "−" : "+" + left.length}</button>`;
  return html`<div ref=${place} class=${"table" + (tight ? " tight" : "") + (rows.length <= WHOLE_MAX ? " whole" : "")}><table aria-label=${label} aria-rowcount=${rows.length + 1}>
    <thead><tr>
      ${shown.map((column, index) => {
        const mine = sort?.name === column.name;
        const sorts = column.sort || column.kind;
        return html`<th key=${column.name} data-name=${column.name} scope="col" class=${classes(column)} aria-sort=${mine ? (sort.down ? "descending" : "ascending") : undefined}>
          ${sorts ? html`<button type="button" onClick=${() => turn(column)}>${column.title}<span aria-hidden="true">${mine ? (sort.down ? " ↓" : " ↑") : ""}</span></button>` : column.title}${index === shown.length - 1 && others}
        </th>`;
      })}
    </tr></thead>
    <tbody ref=${body}>
      ${first > 0 && html`<tr key="above" aria-hidden="true" class="gap"><td colspan=${shown.length} style=${{ height: first * ROW_PX + "px" }}></td></tr>`}
      ${sorted.slice(first, last).map((row, index) => html`
        <tr key=${id(row)} aria-rowindex=${first + index + 2} class=${(onOpen ? "opens " : "") + (rowClass?.(row) ?? "")}
            tabindex=${onOpen ? 0 : undefined} onClick=${onOpen && ((event) => press(event, row))} onKeyDown=${onOpen && ((event) => press(event, row))}>
          ${shown.map((column) => html`<td key=${column.name} class=${classes(column)}>${column.of(row)}</td>`)}
        </tr>`)}
      ${last < rows.length && html`<tr key="below" aria-hidden="true" class="gap"><td colspan=${shown.length} style=${{ height: (rows.length - last) * ROW_PX + "px" }}></td></tr>`}
    </tbody>
  </table></div>`;
}

const classes = (column) => [column.kind === "number" && "number", column.wrap && "wrap"].filter(Boolean).join(" ") || undefined;
