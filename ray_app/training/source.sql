-- name: behaviors
-- Every behaviour of a tenant in a span of time, oldest first; a repeated event_id counts once.
-- Parameters: tenant; since, until (ms, of occurred_at).
SELECT visitor, user_id, session_id, item_id, type, value, scenario, request_id, occurred_at
FROM behaviors FINAL
WHERE tenant = {tenant:String} AND occurred_at >= {since:Int64} AND occurred_at < {until:Int64}
ORDER BY occurred_at, event_id;
