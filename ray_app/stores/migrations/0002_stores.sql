-- What `analyze_store` finds. A row of an analysis that is done again replaces itself, and `analyzed_at` tells its rows
-- from those that an earlier analysis of the same period left. Hours are their beginning, in ms since 1970 UTC.
CREATE TABLE IF NOT EXISTS store_sales (
  tenant LowCardinality(String),
  store_id String,
  since Int64,
  until Int64,
  hour Int64,
  dish_id String,
  orders UInt32,
  quantity Float64,
  amount Float64,
  analyzed_at Int64
) ENGINE = ReplacingMergeTree(analyzed_at) ORDER BY (tenant, store_id, since, until, hour, dish_id);

CREATE TABLE IF NOT EXISTS store_anomalies (
  tenant LowCardinality(String),
  store_id String,
  since Int64,
  until Int64,
  hour Int64,
  orders UInt32,
  amount Float64,
  median Float64,
  spread Float64,
  score Float64,
  analyzed_at Int64
) ENGINE = ReplacingMergeTree(analyzed_at) ORDER BY (tenant, store_id, since, until, hour)
