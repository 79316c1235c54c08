// What pages need again and again: data that is loaded and stays fresh, and live events.

import { useCallback, useEffect, useRef, useState } from "./preact.js";
import { api } from "./api.js";
import { listen } from "./live.js";

/** Loads `path` (null: nothing yet); `{ data, error, loading, reload }`. `every`: also again after so many ms while the
 * page is visible. What was loaded stays while something newer is on its way. */
export function useApi(path, { every = 0 } = {}) {
  const [state, setState] = useState({ data: null, error: null, loading: path !== null });
  const running = useRef(null);
  const reload = useCallback(async () => {
    if (path === null) return;
    running.current?.abort();
    const mine = (running.current = new AbortController());
    try {
      const data = await api.get(path, { signal: mine.signal });
      if (!mine.signal.aborted) setState({ data, error: null, loading: false });
    } catch (error) {
      if (!mine.signal.aborted) setState((before) => ({ data: before.data, error, loading: false }));
    }
  }, [path]);
  useEffect(() => {
    setState((before) => ({ ...before, error: null, loading: path !== null }));
    reload();
    const timer = every ? setInterval(() => document.hidden || reload(), every) : 0;
    return () => {
      clearInterval(timer);
      running.current?.abort();
    };
  }, [path, every, reload]);
  return { ...state, reload };
}

/** Calls `listener` with each live event of a kind while the component is shown. */
export function useLive(kind, listener) {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => listen(kind, (data) => latest.current(data)), [kind]);
}

/** Runs an action once at a time: `[run, busy, error]`. `run` resolves to whether it worked. */
export function useAction(action) {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async (...given) => {
    setState({ busy: true, error: null });
    try {
      await action(...given);
      setState({ busy: false, error: null });
      return true;
    } catch (error) {
      setState({ busy: false, error });
      return false;
    }
  };
  return [run, state.busy, state.error];
}

/** A value that is kept in the browser under a name. */
export function useKept(name, initial) {
  const [value, setValue] = useState(() => {
    try {
      const kept = localStorage.getItem(name);
      return kept === null ? initial : JSON.parse(kept);
    } catch {
      return initial;
    }
  });
  return [
    value,
    (next) => {
      setValue(next);
      try {
        localStorage.setItem(name, JSON.stringify(next));
      } catch {
        // A full or forbidden storage only means that the choice is not remembered.
      }
    },
  ];
}
