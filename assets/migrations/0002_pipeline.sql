-- The truth about submissions, runs, jobs, rankings and weights. Times are Unix milliseconds, blocks are chain blocks.

CREATE TABLE challenges (
    slug            TEXT PRIMARY KEY,
    profile         TEXT NOT NULL,
    profile_digest  TEXT NOT NULL,
    ranking_version INTEGER NOT NULL DEFAULT 0,  -- the guard of runs that fight the present ranking
    dirty           INTEGER NOT NULL DEFAULT 0,  -- something changed that the ranking has not seen
    closing_block   INTEGER,                     -- a run closed here and waits for its contestants
    added_ms        INTEGER NOT NULL
) STRICT;

-- What was first seen on chain, and when. Never updated: it decides who owns what.
CREATE TABLE ledger (
    id         INTEGER PRIMARY KEY,
    challenge  TEXT NOT NULL,
    hotkey     TEXT NOT NULL,
    field      TEXT NOT NULL,                    -- the commitment's text
    block      INTEGER NOT NULL,
    idx        INTEGER NOT NULL,                 -- extrinsic index within the block
    seen_ms    INTEGER NOT NULL,
    UNIQUE (challenge, hotkey, field)
) STRICT;
CREATE TRIGGER ledger_is_final BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is never updated'); END;
CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is never shortened'); END;

CREATE TABLE submissions (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge      TEXT NOT NULL REFERENCES challenges (slug),
    hotkey         TEXT NOT NULL,
    coldkey        TEXT NOT NULL,                -- its owner when it committed; for fair share and same-owner rules
    field          TEXT NOT NULL,                -- the commitment's text; unique per challenge and hotkey
    commit_block   INTEGER NOT NULL,
    commit_index   INTEGER NOT NULL,
    priority_block INTEGER NOT NULL,
    priority_index INTEGER NOT NULL,
    artifact       TEXT,                         -- SHA-256 of the uploaded bytes
    artifact_bytes INTEGER,
    salt           TEXT,
    upload_block   INTEGER,
    stage          INTEGER NOT NULL DEFAULT 0,
    status         TEXT NOT NULL,
    fault          TEXT,                         -- JSON, the reason of the present status
    due_ms         INTEGER,                      -- when a retry is due
    due_block      INTEGER,                      -- when an awaited half is overdue
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    UNIQUE (challenge, hotkey, field)
) STRICT;
CREATE INDEX submissions_by_status ON submissions (challenge, status, stage, priority_block, priority_index);
CREATE INDEX submissions_by_hotkey ON submissions (hotkey, challenge);

CREATE TABLE retries (
    submission INTEGER NOT NULL REFERENCES submissions (id),
    stage      INTEGER NOT NULL,
    class      TEXT NOT NULL,
    count      INTEGER NOT NULL,
    PRIMARY KEY (submission, stage, class)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- also the fencing token: a later attempt has a larger one
    submission     INTEGER NOT NULL REFERENCES submissions (id),
    stage          INTEGER NOT NULL,
    started_ms     INTEGER NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    ended_ms       INTEGER,
    outcome        TEXT,
    fault          TEXT
) STRICT;
CREATE INDEX attempts_open ON attempts (lease_until_ms) WHERE ended_ms IS NULL;
CREATE INDEX attempts_by_submission ON attempts (submission);

CREATE TABLE runs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge    TEXT NOT NULL REFERENCES challenges (slug),
    number       INTEGER NOT NULL,               -- counted within the challenge; seeds are derived from it
    single       INTEGER NOT NULL DEFAULT 0,     -- a run of one, for a stage of scope submission
    shadow       INTEGER NOT NULL DEFAULT 0,
    state        TEXT NOT NULL,                  -- frozen | running | folded | ranked | void
    stage        INTEGER NOT NULL,               -- the stage its contestants are at
    closed_block INTEGER NOT NULL,
    arrivals     INTEGER NOT NULL,               -- contestants that were not incumbents
    seed_block   INTEGER,
    seed_hash    TEXT,
    guard        INTEGER,                        -- the ranking version it was frozen against
    void_reason  TEXT,
    created_ms   INTEGER NOT NULL,
    ended_ms     INTEGER,
    UNIQUE (challenge, number)
) STRICT;
CREATE INDEX runs_by_state ON runs (state);

CREATE TABLE contestants (
    run            INTEGER NOT NULL REFERENCES runs (id),
    submission     INTEGER NOT NULL REFERENCES submissions (id),
    artifact       TEXT NOT NULL,
    priority_block INTEGER NOT NULL,
    priority_index INTEGER NOT NULL,
    incumbent      INTEGER NOT NULL,
    fault          TEXT,                         -- set when it was rejected in this run
    gone           INTEGER NOT NULL DEFAULT 0,   -- left the run undecided: retried, held or withdrawn
    PRIMARY KEY (run, submission)
) STRICT, WITHOUT ROWID;
CREATE INDEX contestants_by_submission ON contestants (submission);

-- One stage's jobs for one run.
CREATE TABLE plans (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    run         INTEGER NOT NULL REFERENCES runs (id),
    stage       INTEGER NOT NULL,
    work        TEXT NOT NULL,
    plan        TEXT NOT NULL,
    state       TEXT NOT NULL,                   -- open | folded | void
    deadline_ms INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    ended_ms    INTEGER
) STRICT;
CREATE UNIQUE INDEX plans_one_open ON plans (run, stage) WHERE state <> 'void';

CREATE TABLE jobs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    plan       INTEGER NOT NULL REFERENCES plans (id),
    run        INTEGER NOT NULL REFERENCES runs (id),
    challenge  TEXT NOT NULL,
    owner      TEXT NOT NULL,                    -- the coldkey whose turn it takes; empty for an incumbent's
    position   INTEGER NOT NULL,                 -- its index in the plan
    job        TEXT NOT NULL,                    -- JSON, as an engine sees it
    replicas   INTEGER NOT NULL,
    quorum     INTEGER NOT NULL,
    retries    INTEGER NOT NULL,
    state      TEXT NOT NULL,                    -- open | done | failed | void
    result     TEXT,                             -- JSON, the settled result
    created_ms INTEGER NOT NULL,
    UNIQUE (plan, position)
) STRICT;
CREATE INDEX jobs_open ON jobs (owner) WHERE state = 'open';

CREATE TABLE replicas (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    job            INTEGER NOT NULL REFERENCES jobs (id),
    n              INTEGER NOT NULL,
    challenge      TEXT NOT NULL,
    turn           INTEGER NOT NULL,             -- how many open jobs of its owner stand before it: fair share
    state          TEXT NOT NULL,                -- queued | leased | done | failed | void
    worker         TEXT,
    token          INTEGER NOT NULL DEFAULT 0,   -- fencing: raised at every claim
    failures       INTEGER NOT NULL DEFAULT 0,
    due_ms         INTEGER NOT NULL DEFAULT 0,
    lease_until_ms INTEGER,
    result         TEXT,                         -- JSON records or fault
    records_digest TEXT,                         -- what a quorum compares
    finished_ms    INTEGER,
    UNIQUE (job, n)
) STRICT;
CREATE INDEX replicas_queued ON replicas (challenge, turn, id) WHERE state = 'queued';
CREATE INDEX replicas_by_job ON replicas (job);
CREATE INDEX replicas_leased ON replicas (lease_until_ms) WHERE state = 'leased';

-- Every try of a replica that did not end it, kept for the story.
CREATE TABLE replica_failures (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    replica    INTEGER NOT NULL REFERENCES replicas (id),
    token      INTEGER NOT NULL,
    worker     TEXT,
    fault      TEXT NOT NULL,
    at_ms      INTEGER NOT NULL
) STRICT;

CREATE TABLE verdicts (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    submission   INTEGER NOT NULL REFERENCES submissions (id),
    run          INTEGER REFERENCES runs (id),
    stage        INTEGER NOT NULL,
    stage_name   TEXT NOT NULL,
    outcome      TEXT NOT NULL,                  -- pass | reject | hold
    fault        TEXT,
    evidence     TEXT NOT NULL,
    at_ms        INTEGER NOT NULL
) STRICT;
CREATE INDEX verdicts_by_submission ON verdicts (submission, id);
CREATE INDEX verdicts_by_run ON verdicts (run, stage);
CREATE TRIGGER verdicts_are_final BEFORE UPDATE ON verdicts BEGIN SELECT RAISE(ABORT, 'a verdict is never updated'); END;

CREATE TABLE decisions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    submission INTEGER NOT NULL REFERENCES submissions (id),
    approved   INTEGER NOT NULL,
    by_whom    TEXT NOT NULL,
    note       TEXT NOT NULL,
    at_ms      INTEGER NOT NULL
) STRICT;

CREATE TABLE reports (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge  TEXT NOT NULL REFERENCES challenges (slug),
    service    TEXT NOT NULL,
    body       TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE rankings (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    challenge  TEXT NOT NULL REFERENCES challenges (slug),
    version    INTEGER NOT NULL,
    run        INTEGER REFERENCES runs (id),
    block      INTEGER NOT NULL,
    input      TEXT NOT NULL,                    -- JSON, what the rule saw
    ranking    TEXT NOT NULL,                    -- JSON, what it said
    at_ms      INTEGER NOT NULL,
    UNIQUE (challenge, version)
) STRICT;

CREATE TABLE vectors (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    netuid       INTEGER NOT NULL,
    block        INTEGER NOT NULL,               -- of the snapshot it was made at
    uids         TEXT NOT NULL,                  -- JSON
    weights      TEXT NOT NULL,                  -- JSON, u16, as the chain stores them
    rankings     TEXT NOT NULL,                  -- JSON, the versions it was made from
    evidence     TEXT NOT NULL,                  -- digest of the bundle
    state        TEXT NOT NULL,                  -- decided | confirmed | failed | superseded
    detail       TEXT,
    confirmed_block INTEGER,
    at_ms        INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL UNIQUE,             -- idempotency
    payload    BLOB NOT NULL,                    -- for a chain write: the signed extrinsic itself
    subject    INTEGER,                          -- the row it acts for
    state      TEXT NOT NULL,                    -- unsent | sent | done | dead
    tries      INTEGER NOT NULL DEFAULT 0,
    due_ms     INTEGER NOT NULL DEFAULT 0,
    detail     TEXT,
    created_ms INTEGER NOT NULL,
    ended_ms   INTEGER
) STRICT;
CREATE INDEX outbox_open ON outbox (due_ms) WHERE state IN ('unsent', 'sent');

-- What a door turned away, with the code it said.
CREATE TABLE refusals (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms     INTEGER NOT NULL,
    challenge TEXT NOT NULL,
    hotkey    TEXT NOT NULL,
    fault     TEXT NOT NULL
) STRICT;

-- How far the chain has been read, and what could not be.
CREATE TABLE follower (
    netuid INTEGER PRIMARY KEY,
    block  INTEGER NOT NULL,
    hash   TEXT NOT NULL
) STRICT;
CREATE TABLE gaps (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    netuid     INTEGER NOT NULL,
    from_block INTEGER NOT NULL,
    to_block   INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL
) STRICT;
