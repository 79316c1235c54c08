// A chart of series over time, by uPlot, which is loaded when the first chart is shown.
//
// `series`: [{ label, values, tone, fill?, dash?, format? }], `times`: Unix seconds, `bands`: [[upper, lower] indices of
// series, from 0]. `span`: how many seconds up to the newest are shown, however few are known yet; `floor`: the least that
// the vertical axis reaches, so that nothing is drawn as nothing. The same numbers are read to screen readers as one
// sentence: `summary`.

import { html, useEffect, useRef } from "../lib/preact.js";

const file = (name) => new URL("../vendor/" + name, import.meta.url).href;
let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: file("uplot.css") });
    const script = document.createElement("script");
    script.src = trusted(file("uplot.js"));
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => reject(new Error("The chart library did not load."));
    document.head.append(sheet, script);
  });
  return loading;
}

/** Our own file's URL in the form that the page's policy demands of scripts. */
function trusted(url) {
  if (!window.trustedTypes) return url;
  trusted.policy ??= window.trustedTypes.createPolicy("akr-charts", { createScriptURL: (one) => one });
  return trusted.policy.createScriptURL(url);
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const faded = (name) => `color-mix(in srgb, ${color(name)} 18%, transparent)`;

export function Chart({ times, series, bands = [], height = 180, format, summary, max, span, floor }) {
  const place = useRef(null);
  const chart = useRef(null);
  const shape = JSON.stringify([series.map(({ label, tone, fill, dash }) => [label, tone, fill, dash]), bands, height, max, span, floor]);
  const data = [times, ...series.map((one) => one.values)];
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    let gone = false;
    const element = place.current;
    const draw = async () => {
      const uPlot = await load();
      if (gone) return;
      chart.current?.destroy();
      chart.current = new uPlot(options(element, { series, bands, height, format, max, span, floor }), latest.current, element);
    };
    draw();
    const resized = new ResizeObserver(() => chart.current?.setSize({ width: element.clientWidth, height }));
    resized.observe(element);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    addEventListener("akr-theme", draw);
    return () => {
      gone = true;
      resized.disconnect();
      dark.removeEventListener("change", draw);
      removeEventListener("akr-theme", draw);
      chart.current?.destroy();
      chart.current = null;
    };
  }, [shape]);
  useEffect(() => chart.current?.setData(data), [times, ...series.map((one) => one.values)]);
  return html`<figure class="chart" role="img" aria-label=${summary}><div ref=${place} style=${{ minHeight: height + "px" }}></div></figure>`;
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });

/** Times of day under an axis, with seconds where the ticks are closer than minutes. */
const clocks = (_, ticks) => ticks.map((at) => (ticks.length > 1 && ticks[1] - ticks[0] < 60 ? clock(at) : clock(at).slice(0, 5)));

/** What ticks show; a text that repeats itself is shown once. */
const once = (texts) => texts.map((text, index) => (texts.indexOf(text) === index ? text : ""));

function options(element, { series, bands, height, format, max, span, floor }) {
  const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line"), width: 1 }, font: "11px system-ui" };
  const shown = format ?? ((value) => String(value));
  return {
    width: element.clientWidth || 300,
    height,
    legend: { live: true },
    cursor: { y: false, points: { size: 6 } },
    padding: [8, 12, 0, 0],
    scales: {
      x: span ? { range: (_, low, high) => [(high ?? 0) - span, high ?? 0] } : {},
      y: { range: (_, low, high) => [0, max ?? Math.max((high ?? 0) * 1.1, floor ?? 1e-9)] },
    },
    axes: [
      { ...axis, size: 28, space: 80, values: clocks },
      { ...axis, size: 68, values: (_, ticks) => once(ticks.map(shown)) },
    ],
    series: [
      { label: "at", value: (_, at) => (at == null ? "" : clock(at)) },
      ...series.map((one) => ({
        label: one.label,
        stroke: color(one.tone ?? "accent"),
        width: one.fill === "only" ? 0 : 1.75,
        dash: one.dash ? [5, 4] : undefined,
        fill: one.fill ? faded(one.tone ?? "accent") : undefined,
        points: { show: false },
        value: (_, value) => (value == null ? "–" : (one.format ?? shown)(value)),
      })),
    ],
    bands: bands.map(([upper, lower]) => ({ series: [upper + 1, lower + 1], fill: faded(series[upper].tone ?? "accent") })),
  };
}
