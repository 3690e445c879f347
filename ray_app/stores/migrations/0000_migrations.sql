-- Which of these files were applied to this database. Each is applied once, by number, and never edited afterwards.
-- A statement ends with a semicolon, may run a second time (two processes may start at once, or one end in the middle),
-- and uses only what ClickHouse 24.1 knows.
CREATE TABLE IF NOT EXISTS migrations (
  number UInt32,
  name String,
  checksum String,
  applied_at Int64
) ENGINE = ReplacingMergeTree ORDER BY number;
