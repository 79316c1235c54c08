-- Money that several processes share: workers, their slices, window totals, ledger entries; usage roll-ups; changes.
-- A window is named by the Unix second at which it starts, 0 for a total without a start. Amounts are whole nano-dollars.

ALTER TABLE keys ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

CREATE TABLE window_totals (
    budget_id TEXT    NOT NULL,
    window_s  INTEGER NOT NULL,
    spent     INTEGER NOT NULL,
    held      INTEGER NOT NULL,
    granted   INTEGER NOT NULL,
    overrun   INTEGER NOT NULL,
    presumed  INTEGER NOT NULL,
    alerted   INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    PRIMARY KEY (budget_id, window_s)
) WITHOUT ROWID;

CREATE TABLE lease_rows (
    budget_id TEXT    NOT NULL,
    window_s  INTEGER NOT NULL,
    worker_id TEXT    NOT NULL,
    seq       INTEGER NOT NULL,
    spent     INTEGER NOT NULL,
    held      INTEGER NOT NULL,
    granted   INTEGER NOT NULL,
    overrun   INTEGER NOT NULL,
    PRIMARY KEY (worker_id, budget_id, window_s)
) WITHOUT ROWID;

-- Workers that were not ended. Times are by this machine's clock.
CREATE TABLE workers (
    seq          INTEGER PRIMARY KEY,
    worker_id    TEXT NOT NULL UNIQUE,
    host         TEXT NOT NULL,
    expires_at_s REAL NOT NULL
);

-- Workers that were ended: whatever they still ask is refused.
CREATE TABLE ended_workers (
    worker_id  TEXT PRIMARY KEY NOT NULL,
    ended_at_s REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE entries (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s      REAL    NOT NULL,
    budget_id TEXT    NOT NULL,
    window_s  INTEGER NOT NULL,
    worker_id TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    amount    INTEGER NOT NULL
);
CREATE INDEX entries_by_budget ON entries (budget_id, seq);

-- Rows of hours; those of days that are long past stand under the day's first hour.
CREATE TABLE usage (
    hour_s              INTEGER NOT NULL,
    provider_id         TEXT    NOT NULL,
    key_id              TEXT    NOT NULL,
    model               TEXT    NOT NULL,
    virtual_key_id      TEXT    NOT NULL,
    team                TEXT    NOT NULL,
    tags                TEXT    NOT NULL,
    requests            INTEGER NOT NULL,
    failures            INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cost_nano_usd       INTEGER NOT NULL,
    presumed_nano_usd   INTEGER NOT NULL,
    PRIMARY KEY (hour_s, provider_id, key_id, model, virtual_key_id, team, tags)
) WITHOUT ROWID;

-- What was spent moves to the window that it was spent in, named by the start of its UTC hour, day, ISO week or month.
INSERT INTO window_totals (budget_id, window_s, spent, held, granted, overrun, presumed, alerted, calls)
SELECT budget_id,
       coalesce(CAST(CASE
           WHEN window_id GLOB '????-??-??T??*' THEN strftime('%s', substr(window_id || ':00', 1, 16))
           WHEN window_id GLOB '????-??-??' THEN strftime('%s', window_id)
           WHEN window_id GLOB '????-W??' THEN strftime('%s', substr(window_id, 1, 4) || '-01-04', 'weekday 0',
               '-6 days', '+' || (7 * (substr(window_id, 7) - 1)) || ' days')
           WHEN window_id GLOB '????-??' THEN strftime('%s', window_id || '-01')
       END AS INTEGER), 0),
       spent_nano_usd, 0, spent_nano_usd, 0, 0,
       (spent_nano_usd >= 0.5 * limit_nano_usd) + (spent_nano_usd >= 0.8 * limit_nano_usd)
           + (spent_nano_usd >= 0.95 * limit_nano_usd) + (spent_nano_usd >= limit_nano_usd),
       0
FROM budgets
WHERE spent_nano_usd > 0;

INSERT INTO entries (at_s, budget_id, window_s, worker_id, kind, amount)
SELECT CAST(strftime('%s', 'now') AS REAL), budget_id, window_s, '', 'opening', spent
FROM window_totals
ORDER BY budget_id;

CREATE TABLE budgets_now (
    seq            INTEGER PRIMARY KEY,
    budget_id      TEXT    NOT NULL UNIQUE,
    scope          TEXT    NOT NULL,
    scope_id       TEXT,
    limit_nano_usd INTEGER NOT NULL,
    period         TEXT    NOT NULL,
    mode           TEXT    NOT NULL,
    created_at_s   REAL    NOT NULL,
    status         TEXT    NOT NULL,
    rolling        INTEGER NOT NULL,
    time_zone      TEXT    NOT NULL,
    name           TEXT    NOT NULL
);
INSERT INTO budgets_now
SELECT seq, budget_id, scope, scope_id, limit_nano_usd, period, mode, created_at_s, status, 0, 'UTC', '' FROM budgets;
DROP TABLE budgets;
ALTER TABLE budgets_now RENAME TO budgets;

-- What other processes must know, in order; the newest 10,000.
CREATE TABLE changes (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind      TEXT NOT NULL,
    entity_id TEXT NOT NULL
);
CREATE TRIGGER changes_are_bounded AFTER INSERT ON changes BEGIN
    DELETE FROM changes WHERE seq <= new.seq - 10000;
END;

CREATE TRIGGER key_added AFTER INSERT ON keys BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('key', new.key_id);
END;
CREATE TRIGGER key_changed AFTER UPDATE ON keys WHEN new.revision > old.revision BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('key', new.key_id);
END;
CREATE TRIGGER key_deleted AFTER DELETE ON keys BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('key', old.key_id);
END;
CREATE TRIGGER budget_added AFTER INSERT ON budgets BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('budget', new.budget_id);
END;
CREATE TRIGGER budget_changed AFTER UPDATE ON budgets BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('budget', new.budget_id);
END;
CREATE TRIGGER virtual_key_added AFTER INSERT ON virtual_keys BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('virtual_key', new.virtual_key_id);
END;
CREATE TRIGGER virtual_key_changed AFTER UPDATE ON virtual_keys BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('virtual_key', new.virtual_key_id);
END;
CREATE TRIGGER setting_added AFTER INSERT ON settings BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('setting', new.name);
END;
CREATE TRIGGER setting_changed AFTER UPDATE ON settings BEGIN
    INSERT INTO changes (kind, entity_id) VALUES ('setting', new.name);
END;
