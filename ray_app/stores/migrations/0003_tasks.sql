-- Attempts of tasks. One that is shipped twice is the same row. Of a replayed task the attempts of both lives stay.
CREATE TABLE IF NOT EXISTS task_attempts (
  tenant LowCardinality(String),
  id String,
  attempt UInt16,
  state LowCardinality(String),
  name LowCardinality(String),
  queue LowCardinality(String),
  task_group String,
  parent String,
  trace String,
  argument String,
  result String,
  error String,
  submitted_at Int64,
  eta Int64,
  started_at Int64,
  ended_at Int64,
  noted_at Int64
) ENGINE = ReplacingMergeTree ORDER BY (tenant, noted_at, id, attempt, state);
