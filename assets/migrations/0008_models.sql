-- Models that were fetched and read once.

-- What is kept of a model for comparing it: comparable under one key only, which is in the data directory.
CREATE TABLE fingerprints (
    artifact      TEXT NOT NULL,                 -- what was committed
    key           TEXT NOT NULL,                 -- mark of the key, in hex
    contents      TEXT NOT NULL,                 -- digest of the matrices, whatever they are called, in hex
    weights_bytes INTEGER NOT NULL,
    print         BLOB NOT NULL,
    made_ms       INTEGER NOT NULL,
    PRIMARY KEY (artifact, key)
) STRICT;

-- What of them is public: an object for each model of a challenge, appended and never changed.
CREATE TABLE corpus (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge TEXT NOT NULL,
    artifact  TEXT NOT NULL,
    contents  TEXT NOT NULL,
    object    TEXT NOT NULL,                     -- SHA-256 of the object in the object store
    at_ms     INTEGER NOT NULL,
    UNIQUE (challenge, artifact)
) STRICT;
CREATE TRIGGER corpus_is_final BEFORE UPDATE ON corpus
BEGIN SELECT RAISE(ABORT, 'the corpus is never changed'); END;
CREATE TRIGGER corpus_is_kept BEFORE DELETE ON corpus
BEGIN SELECT RAISE(ABORT, 'the corpus is only appended to'); END;
