-- How a vector goes to the chain, and where its commit stands when it is hidden at first. A vector's state may also be
-- `committed` (in a finalized block, not revealed) or `dropped` (its reveal had no effect).

ALTER TABLE vectors ADD COLUMN sending TEXT NOT NULL          -- JSON: way, mechanism, version key, what the reveal needs
    DEFAULT '{"way":"plain","mechanism":0,"version_key":0}';
ALTER TABLE vectors ADD COLUMN commit_block INTEGER;
ALTER TABLE vectors ADD COLUMN commit_epoch INTEGER;
CREATE INDEX outbox_by_subject ON outbox (subject, kind);
