-- name: examples
-- One row for each item of an answer that its visitor has seen, as the client's impression says, with the feature values
-- as they were shown and what the visitor did within the attribution window: clicked, converted, watch time.
-- A behaviour that names an answer counts for that one alone; one that names none counts for the last answer before it
-- that showed the item to the same visitor, be it after `until`. Repeated events and repeated answers count once.
-- propensity: with which probability the item came to its place, below 1 only where the scenario explores.
-- Who did what is found by ids alone: the long lists of items are read once, of the answers that are wanted.
-- Parameters: tenant; since, until (ms: of the answers); window_ms (from an answer on); scenario ('': every one);
-- one_in (1: every answer; n: one of n, the same ones each time).
WITH
  done AS (
    SELECT visitor, item_id, type, value, request_id, occurred_at
    FROM behaviors FINAL
    WHERE tenant = {tenant:String}
      AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64} + 2 * {window_ms:Int64}
  ),
  seen AS (
    SELECT
      s.request_id AS request_id, b.item_id AS item_id, s.visitor AS visitor, s.answered_at AS answered_at,
      max(b.type = 'click') AS clicked,
      max(b.type = 'purchase') AS converted,
      sum(if(b.type = 'play', ifNull(b.value, 0), 0)) AS watch_time
    FROM (SELECT visitor, item_id, type, value, request_id, occurred_at FROM done WHERE request_id != '') AS b
    INNER JOIN (
      SELECT request_id, visitor, answered_at
      FROM slates FINAL
      WHERE tenant = {tenant:String}
        AND answered_at >= {since:Int64} AND answered_at < {until:Int64} + {window_ms:Int64}
    ) AS s ON b.request_id = s.request_id
    WHERE b.occurred_at >= s.answered_at AND b.occurred_at < s.answered_at + {window_ms:Int64}
      AND (s.visitor = b.visitor OR s.visitor = '')
    GROUP BY s.request_id, b.item_id, s.visitor, s.answered_at
    HAVING max(b.type = 'impression') = 1
  ),
  unnamed AS (
    SELECT
      k.request_id AS request_id, k.item_id AS item_id,
      max(b.type = 'click') AS clicked,
      max(b.type = 'purchase') AS converted,
      sum(if(b.type = 'play', ifNull(b.value, 0), 0)) AS watch_time
    FROM (SELECT visitor, item_id, type, value, occurred_at FROM done WHERE request_id = '') AS b
    ASOF INNER JOIN (SELECT request_id, visitor, item_id, answered_at FROM seen WHERE visitor != '') AS k
      ON b.visitor = k.visitor AND b.item_id = k.item_id AND b.occurred_at >= k.answered_at
    WHERE b.occurred_at < k.answered_at + {window_ms:Int64}
    GROUP BY k.request_id, k.item_id
  ),
  followed AS (
    SELECT
      k.request_id AS request_id, k.item_id AS item_id,
      greatest(k.clicked, u.clicked) AS clicked, greatest(k.converted, u.converted) AS converted,
      k.watch_time + u.watch_time AS watch_time
    FROM seen AS k
    LEFT JOIN unnamed AS u ON k.request_id = u.request_id AND k.item_id = u.item_id
    WHERE cityHash64(k.request_id) % {one_in:UInt32} = 0
  ),
  wanted AS (
    SELECT
      request_id, visitor, scenario, answered_at, arms, versions,
      tupleElement(placed, 'item_id') AS item_id,
      toUInt16(number - 1) AS position,
      tupleElement(placed, 'score') AS score,
      tupleElement(placed, 'channels') AS channels,
      arrayMap(x -> ifNull(x, toFloat32(nan)), tupleElement(placed, 'features')) AS features,
      ifNull(tupleElement(placed, 'propensity'), 1.) AS propensity
    FROM (
      -- In one go: JSONExtractArrayRaw writes numbers anew, and loses the sign of a zero.
      SELECT request_id, visitor, scenario, answered_at, arms, versions, JSONExtract(items, 'Array(Tuple(
        item_id String, score Float64, channels Array(String), features Array(Nullable(Float32)),
        propensity Nullable(Float64)))') AS list
      FROM slates FINAL
      WHERE tenant = {tenant:String} AND answered_at >= {since:Int64} AND answered_at < {until:Int64}
        AND {scenario:String} IN ('', scenario) AND cityHash64(request_id) % {one_in:UInt32} = 0
    )
    ARRAY JOIN list AS placed, arrayEnumerate(list) AS number
  )
SELECT
  w.request_id AS request_id, w.item_id AS item_id, w.visitor AS visitor, w.scenario AS scenario,
  w.answered_at AS answered_at, w.position AS position, w.score AS score, w.channels AS channels,
  w.features AS features, w.propensity AS propensity, w.arms AS arms, w.versions AS versions,
  f.clicked AS clicked, f.converted AS converted, f.watch_time AS watch_time
FROM wanted AS w
INNER JOIN followed AS f ON w.request_id = f.request_id AND w.item_id = f.item_id
ORDER BY answered_at, request_id, position;

-- name: confirmed_answers
-- How many answers of each scenario were confirmed by at least one impression: a scenario whose clients send none has
-- no examples. Parameters: tenant; since, until (ms: of the answers); window_ms (as of examples).
SELECT
  scenario,
  count() AS answers,
  countIf(request_id IN (
    SELECT request_id FROM behaviors FINAL
    WHERE tenant = {tenant:String} AND type = 'impression'
      AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64} + {window_ms:Int64}
  )) AS confirmed
FROM slates FINAL
WHERE tenant = {tenant:String} AND answered_at >= {since:Int64} AND answered_at < {until:Int64}
GROUP BY scenario
ORDER BY scenario;

-- name: shadow
-- The live ranker and the shadow beside it, on what was shown and seen: per pair of versions the answers, the items, the
-- clicks, the AUC of the clicks by each one's scores, and in which share of the answers both name the same best item.
-- AUC 0 means that there was no click, or nothing else. Parameters: tenant; since, until; window_ms, as of examples.
WITH
  shown AS (
    SELECT
      request_id, answered_at, visitor,
      JSONExtractString(versions, 'ranker') AS live,
      JSONExtractString(versions, 'ranker.shadow') AS shadow,
      JSONExtractString(placed, 'item_id') AS item_id,
      JSONExtractFloat(placed, 'score') AS live_score,
      JSONExtractFloat(placed, 'shadow') AS shadow_score
    FROM (
      SELECT request_id, answered_at, visitor, versions, JSONExtractArrayRaw(items) AS list
      FROM slates FINAL
      WHERE tenant = {tenant:String} AND answered_at >= {since:Int64} AND answered_at < {until:Int64}
        AND JSONExtractString(versions, 'ranker.shadow') != ''
    )
    ARRAY JOIN list AS placed
    WHERE JSONExtract(placed, 'shadow', 'Nullable(Float64)') IS NOT NULL
  ),
  done AS (
    SELECT visitor, item_id, type, request_id, occurred_at
    FROM behaviors FINAL
    WHERE tenant = {tenant:String} AND type IN ('click', 'impression')
      AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64} + {window_ms:Int64}
  ),
  seen AS (
    SELECT s.request_id AS request_id, s.item_id AS item_id, max(b.type = 'click') AS clicked
    FROM done AS b
    INNER JOIN shown AS s ON b.request_id = s.request_id AND b.item_id = s.item_id
    WHERE b.occurred_at >= s.answered_at AND b.occurred_at < s.answered_at + {window_ms:Int64}
      AND (s.visitor = b.visitor OR s.visitor = '')
    GROUP BY request_id, item_id
  ),
  answers AS (
    SELECT live, shadow, request_id,
      argMax(item_id, (live_score, item_id)) = argMax(item_id, (shadow_score, item_id)) AS same_best
    FROM shown GROUP BY live, shadow, request_id
  ),
  judged AS (
    SELECT s.live AS live, s.shadow AS shadow, count() AS items, sum(k.clicked) AS clicks,
      arrayAUC(groupArray(s.live_score), groupArray(k.clicked)) AS live_auc,
      arrayAUC(groupArray(s.shadow_score), groupArray(k.clicked)) AS shadow_auc
    FROM shown AS s INNER JOIN seen AS k ON s.request_id = k.request_id AND s.item_id = k.item_id
    GROUP BY live, shadow
  )
SELECT
  a.live AS live, a.shadow AS shadow, count() AS answers, avg(a.same_best) AS same_best,
  any(j.items) AS items, any(j.clicks) AS clicks, any(j.live_auc) AS live_auc, any(j.shadow_auc) AS shadow_auc
FROM answers AS a LEFT JOIN judged AS j ON a.live = j.live AND a.shadow = j.shadow
GROUP BY live, shadow
ORDER BY live, shadow;
