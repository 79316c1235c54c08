// The frame of every page: navigation, theme, session, the state of the live stream; and the page in its middle.

import { html, render, useCallback, useEffect, useErrorBoundary, useRef, useState } from "./lib/preact.js";
import { readSession, signIn, signOut, whenSignedOut } from "./lib/api.js";
import { useLive } from "./lib/hooks.js";
import { Link, pathOf, useRoute } from "./lib/route.js";
import { Button, ErrorNote, Field, Loading, Toasts } from "./components/ui.js";
import { PAGES } from "./pages/index.js";

function App() {
  const [session, setSession] = useState(null);
  const [fault, setFault] = useState(null);
  const read = useCallback(() => readSession().then((found) => (setSession(found), setFault(null)), setFault), []);
  useEffect(() => void read(), []);
  useEffect(() => whenSignedOut(() => setSession((before) => before && { ...before, signed_in: false })), []);
  useEffect(() => {
    if (!fault) return undefined;
    const timer = setTimeout(read, 2000);
    return () => clearTimeout(timer);
  }, [fault]);
  if (!session) return fault ? html`<main class="alone"><${ErrorNote} error=${fault} retry=${read} /></main>` : html`<${Loading} what="Loading the dashboard" />`;
  if (!session.signed_in) return html`<${SignIn} done=${setSession} />`;
  return html`<${Frame} session=${session} leave=${async () => { await signOut(); await read(); }} />`;
}

function SignIn({ done }) {
  const [key, setKey] = useState("");
  const [state, setState] = useState({ busy: false, error: null });
  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true, error: null });
    try {
      done(await signIn(key));
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  useEffect(() => void (document.title = "Sign in · ApiKeyRouter"), []);
  return html`<main class="alone"><form class="card" onSubmit=${submit}>
    <h1>ApiKeyRouter</h1>
    <${Field} label="Admin key" type="password" value=${key} onInput=${setKey} autocomplete="current-password" autofocus
      hint="The value of APIKEYROUTER_ADMIN_KEY, or a virtual key of role admin." />
    <${ErrorNote} error=${state.error} />
    <button class="button primary" disabled=${state.busy || !key.trim()} aria-busy=${state.busy}>Sign in</button>
  </form></main>`;
}

/** Pages that show nothing live ("off") say nothing. */
const LIVE = { live: ["good", "Live"], waiting: ["bad", "Reconnecting"], off: ["plain", ""] };

function Frame({ session, leave }) {
  const route = useRoute();
  const [status, setStatus] = useState("off");
  const [open, setOpen] = useState(false);
  useLive("status", setStatus);
  const current = PAGES.find((one) => one.page === route.page) ?? null;
  useEffect(() => {
    document.title = `${current?.title ?? "Not found"} · ApiKeyRouter`;
    setOpen(false);
  }, [current]);
  const [tone, text] = LIVE[status];
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <header class="top">
      <button type="button" class="icon menu" aria-expanded=${open} aria-controls="nav" aria-label="Menu" onClick=${() => setOpen(!open)}>☰</button>
      <${Link} to=${pathOf("")} class="brand">ApiKeyRouter</${Link}>
      <span class="grow"></span>
      <span role="status">${text && html`<span class=${"badge " + tone}>${text}</span>`}</span>
      <${Theme} />
      ${!session.open_mode && html`<${Button} kind="small" onClick=${leave}>Sign out</${Button}>`}
    </header>
    <nav id="nav" class=${open ? "open" : ""} aria-label="Pages">
      <ul>${PAGES.map((one) => html`<li key=${one.page}><${Link} to=${pathOf(one.page)} aria-current=${one === current ? "page" : undefined}>${one.title}</${Link}></li>`)}</ul>
    </nav>
    <main id="main" tabindex="-1"><${Page} key=${route.page} current=${current} route=${route} session=${session} /></main>
    <${Toasts} />`;
}

function Page({ current, route, session }) {
  const [View, setView] = useState(null);
  const [fault, setFault] = useState(null);
  const [broken, reset] = useErrorBoundary();
  const shown = useRef(true);
  const load = () => {
    setFault(null);
    current?.load().then((module) => shown.current && setView(() => module.default), (error) => shown.current && setFault(error));
  };
  useEffect(() => {
    load();
    return () => void (shown.current = false);
  }, []);
  if (!current) return html`<h1>Not found</h1><p>There is no page here. <${Link} to=${pathOf("")}>Go to the overview</${Link}>.</p>`;
  if (broken) return html`<h1>${current.title}</h1><${ErrorNote} error=${{ message: "This page broke: " + broken.message }} retry=${reset} />`;
  if (fault) return html`<h1>${current.title}</h1><${ErrorNote} error=${{ message: "The page did not load. The proxy may have been updated or stopped." }} retry=${() => location.reload()} />`;
  return html`<h1>${current.title}</h1>${View ? html`<${View} route=${route} session=${session} />` : html`<${Loading} />`}`;
}

const THEME_NAMES = { system: "Auto", light: "Light", dark: "Dark" };
const THEMES = Object.keys(THEME_NAMES);

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "system");
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const choose = () => {
    setTheme(next);
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("akr-theme");
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem("akr-theme", next);
    }
    dispatchEvent(new Event("akr-theme"));
  };
  return html`<${Button} kind="small" onClick=${choose} aria-label=${`${THEME_NAMES[theme]} theme. Switch to ${THEME_NAMES[next].toLowerCase()}`}>${THEME_NAMES[theme]}</${Button}>`;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
