// Rows of the spend report as columns of bars: every hour or day of the interval, also those without a request.

import { usd, count } from "./format.js";

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const HOUR_MS = 3600e3;
const DAY_MS = 24 * HOUR_MS;

export const MEASURES = {
  cost: { title: "Cost", of: (row) => Number(row.cost), format: usd },
  requests: { title: "Requests", of: (row) => row.requests, format: (n) => count(Math.round(n * 10) / 10) },
  tokens: { title: "Tokens", of: (row) => row.input_tokens + row.output_tokens, format: (n) => count(Math.round(n)) },
};

/** "hour" for up to three days, else "day". */
export const stepOf = (since, until) => (Date.parse(until) - Date.parse(since) <= 3 * DAY_MS + HOUR_MS ? "hour" : "day");

/** What a row is called in a report by `group`. */
export function nameOf(row, group) {
  const field = group.replace("-", "_");
  if (field === "key") return row.key_label ?? row.key ?? "–";
  if (field === "virtual_key") return row.virtual_key ? (row.virtual_key_name ?? row.virtual_key) : "no client";
  if (field === "team") return row.team || "no team";
  return row[field] || "–";
}

/** `[{ at, label, title }]`: each hour or day of the report's interval up to now, `at` as the report names it. */
export function slots(report, step) {
  const [since, until] = [Date.parse(report.since), Math.min(Date.parse(report.until), Date.now())];
  const found = [];
  if (step === "hour") {
    const short = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hour12: false });
    const long = new Intl.DateTimeFormat([], { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });
    for (let ms = since; ms < until; ms += HOUR_MS) {
      found.push({ at: ms, label: short.format(ms), title: long.format(ms) });
    }
    return found;
  }
  const [first, last] = [report.since.slice(0, 10), new Date(until).toLocaleDateString("sv-SE", { timeZone: report.time_zone })];
  const short = new Intl.DateTimeFormat([], { day: "numeric", month: "short", timeZone: "UTC" });
  const long = new Intl.DateTimeFormat([], { weekday: "long", day: "numeric", month: "long", timeZone: "UTC" });
  for (let ms = Date.parse(first); ms <= Date.parse(last); ms += DAY_MS) {
    const at = new Date(ms).toISOString().slice(0, 10);
    found.push({ at, label: short.format(ms), title: long.format(ms) });
  }
  return found;
}

/** The bars: the `top` groups that have most, and others. `{ columns, bands, others }` */
export function stacked(report, step, group, measure, top = 6) {
  const value = MEASURES[measure].of;
  const sums = new Map();
  const cells = new Map();
  for (const row of report.data) {
    const at = step === "hour" ? Date.parse(row.hour) : row.day;
    const name = group ? nameOf(row, group) : "all";
    sums.set(name, (sums.get(name) ?? 0) + value(row));
    const cell = cells.get(at) ?? cells.set(at, new Map()).get(at);
    cell.set(name, (cell.get(name) ?? 0) + value(row));
  }
  const ranked = [...sums].filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const kept = ranked.slice(0, ranked.length > top + 1 ? top : top + (ranked.length === top + 1 ? 0 : 1));
  const rest = ranked.slice(kept.length);
  const columns = slots(report, step).map(({ at, label, title }) => {
    const cell = cells.get(at) ?? new Map();
    const parts = kept.map((name) => cell.get(name) ?? 0);
    if (rest.length) parts.push(rest.reduce((sum, name) => sum + (cell.get(name) ?? 0), 0));
    return { label, title, parts, key: at };
  });
  return { columns, bands: rest.length ? [...kept, `${rest.length} others`] : kept, others: rest.length ? kept.length : 0 };
}
