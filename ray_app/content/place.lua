-- Write a document under its keys, and say which came before it.
-- KEYS: order (hash: document id -> its place), last (the last place given), the document's keys, keys that it had.
-- ARGV: document id; how many keys it has.
local id, n = ARGV[1], tonumber(ARGV[2])
local place = redis.call('HGET', KEYS[1], id)
if not place then
  place = redis.call('INCR', KEYS[2])
  redis.call('HSET', KEYS[1], id, place)
end
local earlier = {}
for k = 1, n do
  redis.call('ZADD', KEYS[2 + k], place, id)
  earlier[k] = redis.call('ZRANGEBYSCORE', KEYS[2 + k], '-inf', '(' .. place, 'LIMIT', 0, 50)
end
for k = 3 + n, #KEYS do
  redis.call('ZREM', KEYS[k], id)
end
return earlier
