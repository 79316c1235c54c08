// The one place that knows which file the view library is.
export * from "../vendor/preact-htm.js";
