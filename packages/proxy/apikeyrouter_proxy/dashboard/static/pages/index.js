// Every page: its place in the URL, its name in the navigation, and the module that shows it (loaded when it is opened).
// A page's module exports a component by default, which is given `{ route, session }`.

export const PAGES = [
  { page: "", title: "Overview", load: () => import("./overview.js") },
  { page: "keys", title: "Keys", load: () => import("./keys.js") },
  { page: "budgets", title: "Budgets", load: () => import("./budgets.js") },
  { page: "spend", title: "Spend", load: () => import("./spend.js") },
  { page: "decisions", title: "Decisions", load: () => import("./decisions.js") },
  { page: "model-routing", title: "Model choice", load: () => import("./model_routing.js") },
  { page: "models", title: "Models and providers", load: () => import("./models.js") },
  { page: "clients", title: "Clients", load: () => import("./clients.js") },
  { page: "playground", title: "Playground", load: () => import("./playground.js") },
  { page: "config", title: "Configuration", load: () => import("./configuration.js") },
  { page: "audit", title: "Audit log", load: () => import("./audit.js") },
];
