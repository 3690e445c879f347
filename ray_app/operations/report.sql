-- name: traffic
-- Each day (its first ms) of the week: answers, and their visitors.
-- Parameters: tenant; since, until (ms).
SELECT
  toInt64(answered_at - answered_at % 86400000) AS day, count() AS answers, uniqExact(visitor) AS visitors
FROM slates FINAL
WHERE tenant = {tenant:String} AND answered_at >= {since:Int64} AND answered_at < {until:Int64}
GROUP BY day
ORDER BY day;

-- name: behaviors
-- Each day of the week: impressions, clicks, purchases, and visitors with any behaviour. Parameters: as of traffic.
SELECT
  toInt64(occurred_at - occurred_at % 86400000) AS day, countIf(type = 'impression') AS impressions,
  countIf(type = 'click') AS clicks, countIf(type = 'purchase') AS purchases, uniqExact(visitor) AS active
FROM behaviors FINAL
WHERE tenant = {tenant:String} AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64}
GROUP BY day
ORDER BY day;

-- name: totals
-- Of the whole week, since its visitors are not the sum of the days'. Parameters: as of traffic.
SELECT
  countIf(type = 'impression') AS impressions, countIf(type = 'click') AS clicks, countIf(type = 'purchase') AS purchases,
  uniqExact(visitor) AS active
FROM behaviors FINAL
WHERE tenant = {tenant:String} AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64};

-- name: items
-- The items with the most clicks and purchases together. Parameters: as of traffic, and most.
SELECT
  item_id, countIf(type = 'impression') AS impressions, countIf(type = 'click') AS clicks,
  countIf(type = 'purchase') AS purchases
FROM behaviors FINAL
WHERE tenant = {tenant:String} AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64}
GROUP BY item_id
HAVING clicks + purchases > 0
ORDER BY clicks + purchases DESC, item_id
LIMIT {most:UInt32}
