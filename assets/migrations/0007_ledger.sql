-- Who was first with what, which hotkeys are done with, and what was paid.

-- Everything on chain that some challenge could read, as it was seen. Rows are added and never changed: who was first
-- follows from them, whatever the order in which they came.
CREATE TABLE sightings (
    id        INTEGER PRIMARY KEY,
    challenge TEXT NOT NULL,
    hotkey    TEXT NOT NULL,
    field     TEXT NOT NULL,                     -- the commitment's text; 0x and hex for bytes that are none
    source    TEXT NOT NULL,                     -- sealed | plain | revealed
    digest    TEXT,                              -- SHA-256 of the content; NULL while it is sealed
    parts     TEXT NOT NULL CHECK (json_valid(parts)),
    block     INTEGER NOT NULL,
    idx       INTEGER NOT NULL,                  -- extrinsic index within the block; 4294967295 where state did not tell
    hash      TEXT,                              -- of the block
    seen_ms   INTEGER NOT NULL,
    UNIQUE (challenge, hotkey, field, block, idx)
) STRICT;
CREATE INDEX sightings_by_digest ON sightings (challenge, digest, block, idx) WHERE digest IS NOT NULL;
CREATE TRIGGER sightings_are_final BEFORE UPDATE ON sightings
BEGIN SELECT RAISE(ABORT, 'a sighting is never updated'); END;
CREATE TRIGGER sightings_are_kept BEFORE DELETE ON sightings
BEGIN SELECT RAISE(ABORT, 'a sighting is never deleted'); END;

INSERT INTO sightings (challenge, hotkey, field, source, parts, block, idx, seen_ms)
SELECT challenge, hotkey, field, 'sealed', '{}', block, idx, seen_ms FROM ledger;

-- The first sighting of each hotkey's text.
CREATE VIEW first_sightings AS
SELECT * FROM sightings AS one WHERE NOT EXISTS (
    SELECT 1 FROM sightings AS earlier
    WHERE earlier.challenge = one.challenge AND earlier.hotkey = one.hotkey AND earlier.field = one.field
      AND (earlier.block, earlier.idx) < (one.block, one.idx)
);

-- Hotkeys that are done with in a challenge: the first reason stays.
CREATE TABLE used_hotkeys (
    challenge  TEXT NOT NULL,
    hotkey     TEXT NOT NULL,
    source     TEXT NOT NULL,                    -- history | evaluated
    block      INTEGER NOT NULL,                 -- of the commitment that used it up
    submission INTEGER REFERENCES submissions (id),
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (challenge, hotkey)
) STRICT, WITHOUT ROWID;

INSERT INTO used_hotkeys (challenge, hotkey, source, block, submission, at_ms)
SELECT challenge, hotkey, 'evaluated', min(commit_block), id, updated_ms FROM submissions
WHERE status IN ('ranked', 'lost') GROUP BY challenge, hotkey;

-- A hotkey that took the place of another without registering: what one has used up the other has too.
CREATE TABLE swaps (
    old         TEXT NOT NULL,
    new         TEXT NOT NULL,
    uid         INTEGER NOT NULL,
    since_block INTEGER NOT NULL,                -- of the registration, which both have
    block       INTEGER NOT NULL,                -- the first one that was read after it
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (new, old)
) STRICT, WITHOUT ROWID;

ALTER TABLE registrations ADD COLUMN uid INTEGER; -- NULL until the metagraph is read again

-- Payments that uploads have named. A payment is one row, and a row is one submission's.
CREATE TABLE payments (
    extrinsic  TEXT PRIMARY KEY,                 -- its hash in lower-case hex
    challenge  TEXT NOT NULL,
    hotkey     TEXT NOT NULL,
    submission INTEGER NOT NULL REFERENCES submissions (id),
    block      INTEGER NOT NULL,
    amount_rao INTEGER NOT NULL,
    state      TEXT NOT NULL,                    -- reserved | bound
    at_ms      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_by_submission ON payments (submission);
