-- Behaviours and slates. A row that comes again replaces itself, and queries read with FINAL.
CREATE TABLE IF NOT EXISTS behaviors (
  tenant LowCardinality(String),
  event_id String,
  visitor String,
  user_id String,
  session_id String,
  item_id String,
  type LowCardinality(String),
  value Nullable(Float64),
  scenario LowCardinality(String),
  request_id String,
  position Nullable(UInt16),
  occurred_at Int64,
  appended_at Int64
) ENGINE = ReplacingMergeTree ORDER BY (tenant, event_id);

CREATE TABLE IF NOT EXISTS slates (
  tenant LowCardinality(String),
  request_id String,
  scenario LowCardinality(String),
  visitor String,
  answered_at Int64,
  items String,
  degraded String,
  arms String,
  versions String
) ENGINE = ReplacingMergeTree ORDER BY (tenant, request_id)
