-- Who is registered in the subnet, as of the newest metagraph that was read. Empty until one was read.
CREATE TABLE registrations (
    hotkey      TEXT PRIMARY KEY,
    since_block INTEGER NOT NULL                 -- a commitment before this block does not count
) STRICT, WITHOUT ROWID;
