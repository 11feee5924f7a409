-- Which chain and which subnet this data directory follows: the first ones that it ever followed.
CREATE TABLE chain_identity (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    genesis    TEXT NOT NULL,                    -- hash of the chain's first block
    netuid     INTEGER NOT NULL,
    pinned_ms  INTEGER NOT NULL
) STRICT;

-- What was last known of the subnet, so that a start need not wait for the chain. Never trusted before the chain says
-- the same.
CREATE TABLE chain_snapshots (
    netuid     INTEGER PRIMARY KEY,
    genesis    TEXT NOT NULL,
    facts      TEXT NOT NULL,                    -- JSON: block, metagraph and rules
    saved_ms   INTEGER NOT NULL
) STRICT;
