-- Every behaviour of a tenant that says something about taste, oldest first; a repeated event_id counts once.
SELECT visitor, item_id, type, occurred_at, ifNull(value, 0) AS value
FROM behaviors FINAL
WHERE tenant = {tenant:String} AND type IN {types:Array(String)} AND occurred_at < {before:Int64}
ORDER BY occurred_at, event_id
