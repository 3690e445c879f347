-- What a request needs of its visitor, in one short reply.
-- KEYS: recent, seen (sorted sets), weights, purchases (hashes). ARGV: how many of the recent items.
-- Returns packed (msgpack): {item, time, item, time, ...}, {seen}, {weight of each}, {purchases of each}; false for none.
local recent = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
local items = {}
for k = 1, #recent, 2 do items[#items + 1] = recent[k] end
local weights, purchases = {}, {}
if #items > 0 then
  weights = redis.call('HMGET', KEYS[3], unpack(items))
  purchases = redis.call('HMGET', KEYS[4], unpack(items))
end
return cmsgpack.pack({recent, redis.call('ZRANGE', KEYS[2], 0, -1), weights, purchases})
