// Stacked bars over time, of plain elements: as wide as there is room, in the colours of the tokens --band1 to --band6.
//
// `columns`: [{ label, title, parts: [numbers, one per band] }]; `bands`: names, from below; the last may be "others".
// The same numbers are read to screen readers as one sentence: `summary`.

import { html } from "../lib/preact.js";

export const BANDS = 6;
const TICKS = 4;
const DATES_MAX = 7;

/** The least round number that is not below `value`: 1, 2 or 5 times a power of ten. */
function roundUp(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((step) => step * size).find((one) => one >= value * 0.9999) ?? value;
}

const tone = (index, others) => (others && index === others ? "band0" : "band" + ((index % BANDS) + 1));

export function Bars({ columns, bands, format, summary, others = 0 }) {
  const top = roundUp(Math.max(0, ...columns.map(({ parts }) => parts.reduce((sum, part) => sum + part, 0))));
  const told = (column) => [column.title, ...column.parts.map((part, index) => part > 0 && `${bands[index]}: ${format(part)}`).filter(Boolean).reverse()].join("\n");
  const every = Math.max(1, Math.ceil(columns.length / DATES_MAX));
  return html`<figure class="bars" role="img" aria-label=${summary}>
    <div class="scale" aria-hidden="true">${Array.from({ length: TICKS + 1 }, (_, index) => html`<span key=${index}>${format((top * index) / TICKS)}</span>`)}</div>
    <div class="plot">${columns.map((column) => html`<div key=${column.label} title=${told(column)}>
      ${column.parts.map((part, index) => part > 0 && html`<i key=${index} class=${tone(index, others)} style=${{ height: (part / top) * 100 + "%" }}></i>`)}
    </div>`)}</div>
    <div class=${"dates" + (every === 1 ? " each" : "")} aria-hidden="true">${columns.map((column, index) => index % every === 0 &&
      html`<span key=${column.label} style=${{ flex: Math.min(every, columns.length - index) }}>${index + every > columns.length && every > 1 ? "" : column.label}</span>`)}</div>
    ${bands.length > 1 && html`<div class="row legend" aria-hidden="true">${bands.map((band, index) => html`<span key=${band}><span class=${"swatch " + tone(index, others)}></span>${band}</span>`)}</div>`}
  </figure>`;
}
