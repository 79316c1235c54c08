-- Keys, budgets, the event and decision logs, virtual keys, settings.
-- `seq` is the order of insertion; replacing a key or a budget keeps its place. Times are Unix seconds (UTC), amounts
-- whole nano-dollars, documents JSON text. Secrets are ciphertext; the digest of a virtual key is a keyed hash.

CREATE TABLE keys (
    seq             INTEGER PRIMARY KEY,
    key_id          TEXT    NOT NULL UNIQUE,
    provider_id     TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    sealed_secret   BLOB    NOT NULL,
    fingerprint     BLOB    NOT NULL,
    version         INTEGER NOT NULL,
    document        TEXT    NOT NULL,
    created_at_s    REAL    NOT NULL,
    updated_at_s    REAL    NOT NULL,
    sealed_previous BLOB
);

CREATE TABLE budgets (
    seq            INTEGER PRIMARY KEY,
    budget_id      TEXT    NOT NULL UNIQUE,
    scope          TEXT    NOT NULL,
    scope_id       TEXT,
    limit_nano_usd INTEGER NOT NULL,
    period         TEXT    NOT NULL,
    mode           TEXT    NOT NULL,
    window_id      TEXT    NOT NULL,
    spent_nano_usd INTEGER NOT NULL,
    created_at_s   REAL    NOT NULL,
    warning_count  INTEGER NOT NULL,
    status         TEXT    NOT NULL
);

-- key_id and provider_id repeat what the document says, so that both can be searched for.
CREATE TABLE events (
    seq         INTEGER PRIMARY KEY,
    at_s        REAL    NOT NULL,
    kind        TEXT    NOT NULL,
    entity_id   TEXT    NOT NULL,
    key_id      TEXT,
    provider_id TEXT,
    document    TEXT    NOT NULL
);
CREATE INDEX events_by_time ON events (at_s);
CREATE INDEX events_by_kind ON events (kind, at_s);

CREATE TABLE decisions (
    seq         INTEGER PRIMARY KEY,
    decision_id TEXT    NOT NULL UNIQUE,
    request_id  TEXT    NOT NULL,
    at_s        REAL    NOT NULL,
    key_id      TEXT,
    provider_id TEXT,
    model       TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    payload     BLOB    NOT NULL
);
CREATE INDEX decisions_by_time ON decisions (at_s);
CREATE INDEX decisions_by_request ON decisions (request_id);
CREATE INDEX decisions_by_key ON decisions (key_id, at_s);

CREATE TABLE virtual_keys (
    seq            INTEGER PRIMARY KEY,
    virtual_key_id TEXT    NOT NULL UNIQUE,
    role           TEXT    NOT NULL,
    digest         BLOB    NOT NULL,
    document       TEXT    NOT NULL,
    created_at_s   REAL    NOT NULL,
    expires_at_s   REAL,
    revoked_at_s   REAL
);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
);
