-- Rates share the tables of slices and windows (ids begin with "rate:"): from when on something of one is in use.

ALTER TABLE window_totals ADD COLUMN since_s INTEGER NOT NULL DEFAULT 0;
