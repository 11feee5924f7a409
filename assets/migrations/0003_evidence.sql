-- What a ranking was made under, the bundle that proves it, and why weights cannot be set.

ALTER TABLE rankings ADD COLUMN profile TEXT;   -- the profile's text, to the byte; NULL where it was not kept
ALTER TABLE rankings ADD COLUMN evidence TEXT;  -- digest of its bundle, once that is stored

-- The reason that stands in the way of weights now. A row goes when weights are decided.
CREATE TABLE weight_refusals (
    netuid    INTEGER PRIMARY KEY,
    fault     TEXT NOT NULL,                    -- JSON
    since_ms  INTEGER NOT NULL,
    last_ms   INTEGER NOT NULL,
    times     INTEGER NOT NULL
) STRICT;
