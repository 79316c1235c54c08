// Every page: its place in the URL, its name in the navigation, and the module that shows it (loaded when it is opened).
// A page's module exports a component by default, which is given `{ route, session }`.

export const PAGES = [
  { page: "", title: "Overview", load: () => import("./overview.js") },
  { page: "keys", title: "Keys", load: () => import("./keys.js") },
  { page: "decisions", title: "Decisions", load: () => import("./decisions.js") },
];
