// Numbers and times as people read them. Money comes from the API as decimal text and is never added up as a float.

const many = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en");

export const count = (n) => (n == null ? "–" : Math.abs(n) < 10000 ? whole.format(n) : many.format(n));

/** US dollars, with as many digits as tell something: $12.30, $0.0042, $0.00000035. */
export function usd(value) {
  if (value == null) return "–";
  const n = Number(value);
  if (!Number.isFinite(n)) return "–";
  if (n === 0) return "$0";
  const size = Math.abs(n);
  const digits = size >= 0.995 ? 2 : Math.min(9, 1 - Math.floor(Math.log10(size)) + 1);
  const shown = size >= 100000 ? many.format(size) : size.toFixed(digits);
  return (n < 0 ? "-$" : "$") + shown;
}

export const percent = (share, digits = 1) => (share == null ? "–" : (share * 100).toFixed(share === 1 ? 0 : digits) + " %");

/** A duration in seconds: 0.4 ms, 120 ms, 3.2 s, 4 min, 2 h 10 min, 3 d. */
export function seconds(s) {
  if (s == null) return "–";
  if (s < 0.0995) return (s * 1000).toFixed(s < 0.00995 ? 1 : 0) + " ms";
  if (s < 0.9995) return (s * 1000).toFixed(0) + " ms";
  if (s < 59.5) return (s < 9.95 ? s.toFixed(1) : Math.round(s)) + " s";
  const minutes = Math.round(s / 60);
  if (minutes < 60) return minutes + " min";
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 7 ? `${days} d ${hours % 24} h` : `${days} d`;
}

export const milliseconds = (ms) => (ms == null ? "–" : seconds(ms / 1000));

/** How long ago, or how far ahead, an ISO time is. */
export function ago(iso, now = Date.now()) {
  if (!iso) return "never";
  const s = (now - Date.parse(iso)) / 1000;
  if (Math.abs(s) < 1) return "now";
  return s > 0 ? seconds(s) + " ago" : "in " + seconds(-s);
}

const TIME = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
const times = new Intl.DateTimeFormat([], TIME); // made once: making one takes longer than drawing a row
const moments = new Intl.DateTimeFormat([], { year: "numeric", month: "numeric", day: "numeric", ...TIME });
export const clock = (iso) => (iso ? times.format(new Date(iso)) : "–");
export const moment = (iso) => (iso ? moments.format(new Date(iso)) : "–");

export const plural = (n, one, more = one + "s") => `${count(n)} ${n === 1 ? one : more}`;
