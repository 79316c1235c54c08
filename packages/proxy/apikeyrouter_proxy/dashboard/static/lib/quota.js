// Quota pools of all keys, and which limit of a pool is the tightest.

import { useCallback, useEffect, useRef, useState } from "./preact.js";
import { api } from "./api.js";

const PAGE_ROWS = 500;

/** Pools by key id, loaded again every so many ms while the page is visible. */
export function usePools(every) {
  const [pools, setPools] = useState(null);
  const alive = useRef(true);
  const load = useCallback(async () => {
    const found = new Map();
    try {
      for (let offset = 0, total = 1; offset < total; offset += PAGE_ROWS) {
        const page = await api.get(`/api/v1/quota?limit=${PAGE_ROWS}&offset=${offset}`);
        total = page.total;
        for (const pool of page.data) for (const key of pool.key_ids) found.set(key, pool);
      }
    } catch {
      return; // what was known stays; the list of keys says what is wrong
    }
    if (alive.current) setPools(found);
  }, []);
  useEffect(() => {
    alive.current = true;
    load();
    const timer = setInterval(() => document.hidden || load(), every);
    return () => {
      alive.current = false;
      clearInterval(timer);
    };
  }, [every]);
  return pools;
}

/** How much of a limit is gone, 0..1; null when the limit is not known. */
export const usedShare = (limit) => (limit.limit ? 1 - Math.max(0, limit.remaining ?? 0) / limit.limit : null);

/** What a limit is called, with its models: as the API names the limit that an outlook is of. */
export const nameOf = (limit) => (limit.models === "*" ? limit.name : `${limit.name}, ${limit.models}`);

/** An outlook without why a key rests and what its limits are like meanwhile: "resting for 21 s". */
export const brief = (outlook) => (outlook.startsWith("resting") ? outlook.split(" (")[0] : outlook);

/** "requests/min" for "requests per minute". */
export const short = (name) => name.replace(" per minute", "/min").replace(" per ", "/");

/** The limit that the pool's outlook is of, else the known one with the least left. */
export function tightest(pool) {
  const known = pool?.limits.filter((limit) => limit.limit != null) ?? [];
  const meant = known.find((limit) => nameOf(limit) === pool.outlook_limit);
  if (meant) return meant;
  return known.reduce((worst, limit) => (worst === null || usedShare(limit) > usedShare(worst) ? limit : worst), null);
}
