-- One flow advances one partition: all changes and the position, or nothing.
-- KEYS[1] position   KEYS[2] ids seen lately (sorted set: id -> appended_at)
-- ARGV: expected start, end, appended_at of the batch's last entry, repeat window in ms, packed operations (msgpack)
-- An operation is {once, command, key, args...}; `once` is an event id or ''.
-- Returns {position, 1 if applied}.
local at = tonumber(redis.call('GET', KEYS[1]) or '0')
if at ~= tonumber(ARGV[1]) then return {at, 0} end -- guard

local repeated = {}  -- ids that an earlier batch applied; one id may carry several operations of this batch
for _, op in ipairs(cmsgpack.unpack(ARGV[5])) do
  local once = op[1]
  if once ~= '' and repeated[once] == nil then
    repeated[once] = redis.call('ZADD', KEYS[2], 'NX', op[2], once) == 0
  end
  if once == '' or not repeated[once] then
    redis.call(unpack(op, 3))
  end
end
-- Only now: a batch may span more than the window, and its first entries still need what came just before them.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', tonumber(ARGV[3]) - tonumber(ARGV[4]))
redis.call('SET', KEYS[1], ARGV[2])
return {tonumber(ARGV[2]), 1}
