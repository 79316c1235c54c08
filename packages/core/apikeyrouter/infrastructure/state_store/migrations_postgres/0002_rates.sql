-- Rates share the tables of slices and windows (ids begin with "rate:"): from when on something of one is in use.

ALTER TABLE windows ADD COLUMN since_s bigint NOT NULL DEFAULT 0;

-- Rates have no row that stays, so whoever reads or writes one holds one of 64 locks of this schema, the lower first.
CREATE FUNCTION lock_rates(ids text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stripe integer;
BEGIN
    FOR stripe IN SELECT DISTINCT hashtext(id) & 63 AS one FROM unnest(ids) id ORDER BY one LOOP
        PERFORM pg_advisory_xact_lock(1095455282, hashtext(current_schema()) # stripe); -- "AKR2"; the schema's own
    END LOOP;
END
$$;

-- As `lease_books`, which stays for processes of the version before; and rates. `rated`: which of `ids` are rates.
-- Windows have one more figure: (spent, held, granted, overrun, presumed, alerted, calls, since).
CREATE FUNCTION lease_lines(
    worker text, host_name text, ttl_s double precision, ids text[], asked bigint[], oldest bigint[], rated boolean[]
) RETURNS TABLE (
    part integer, budget text, start_s bigint,
    a bigint, b bigint, c bigint, d bigint, e bigint, f bigint, g bigint, h bigint, at_s double precision
) LANGUAGE plpgsql AS $$
DECLARE
    now_s double precision := extract(epoch FROM clock_timestamp());
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO workers (worker_id, host, expires_at_s) VALUES (worker, host_name, now_s + ttl_s)
    ON CONFLICT (worker_id) DO UPDATE SET host = excluded.host, expires_at_s = excluded.expires_at_s
    WHERE NOT workers.ended;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT 1, one.budget_id, 0::bigint, one.limit_nano_usd, (one.mode = 'hard')::int::bigint,
        one.rolling::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::double precision
    FROM budgets one WHERE one.budget_id = ANY(ids) AND one.status = 'active' ORDER BY one.budget_id FOR NO KEY UPDATE;
    IF true = ANY(rated) THEN
        PERFORM lock_rates(ARRAY(SELECT ask.id FROM unnest(ids, rated) ask (id, is_rate) WHERE ask.is_rate));
    END IF;
    RETURN QUERY SELECT DISTINCT 2, w.budget_id, w.window_s,
        w.spent, w.held, w.granted, w.overrun, w.presumed, w.alerted, w.calls, w.since_s, 0::double precision
    FROM unnest(ids, asked, oldest, rated) ask (budget_id, window_s, oldest, is_rate)
    LEFT JOIN budgets one ON one.budget_id = ask.budget_id
    JOIN windows w ON w.budget_id = ask.budget_id
        AND (w.window_s = ask.window_s OR (ask.is_rate OR one.rolling = 1) AND w.window_s >= ask.oldest)
    WHERE ask.is_rate OR one.budget_id IS NOT NULL;
    RETURN QUERY SELECT DISTINCT 3, l.budget_id, l.window_s,
        l.seq, l.spent, l.held, l.granted, l.overrun, 0::bigint, 0::bigint, 0::bigint, 0::double precision
    FROM unnest(ids, asked) ask (budget_id, window_s)
    JOIN leases l ON l.worker_id = worker AND l.budget_id = ask.budget_id AND l.window_s = ask.window_s;
    now_s := extract(epoch FROM clock_timestamp());
    RETURN QUERY SELECT 0, ''::text, 0::bigint, count(*), 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
        0::bigint, 0::bigint, now_s
    FROM workers WHERE NOT workers.ended AND (workers.expires_at_s > now_s OR workers.worker_id = worker);
END
$$;
