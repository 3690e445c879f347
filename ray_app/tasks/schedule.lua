-- One change of one schedule: its fields, its place among the due ones, lines of its ledger and what the outbox sends.
-- KEYS: leader, schedule, due, names, ledger, outbox, bodies
-- ARGV[1]: JSON
--   id, version   the change is made of this version; 0: it must be absent
--   owner, epoch  the scheduler's lease; without an epoch an operator asks, whom the version alone guards
--   set           fields; count: what is added to fields
--   wake          when it is due next (ms); none: never
--   entries       [[instant, line] ...]; a line takes the place of one of the same instant
--   keep          lines that stay, the newest
--   out           [[id of the occurrence, body] ...]; now: since when they wait
-- Returns 'done', 'fenced' (another scheduler has the lease), or 'changed' (look at it again).
local ask = cjson.decode(ARGV[1])
if ask.epoch then
  local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
  if held[1] ~= ask.owner or held[2] ~= tostring(ask.epoch) then return 'fenced' end
end
if (redis.call('HGET', KEYS[2], 'version') or '0') ~= tostring(ask.version) then return 'changed' end
for name, value in pairs(ask.set) do redis.call('HSET', KEYS[2], name, value) end
for name, by in pairs(ask.count) do redis.call('HINCRBY', KEYS[2], 'n:' .. name, by) end
redis.call('HSET', KEYS[2], 'version', redis.call('HINCRBY', KEYS[1], 'versions', 1))
redis.call('ZADD', KEYS[3], ask.wake or '+inf', ask.id)
redis.call('ZADD', KEYS[4], 0, ask.id)
for _, entry in ipairs(ask.entries) do
  redis.call('ZREMRANGEBYSCORE', KEYS[5], entry[1], entry[1])
  redis.call('ZADD', KEYS[5], entry[1], entry[2])
end
if #ask.entries > 0 then redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -ask.keep - 1) end
for _, start in ipairs(ask.out) do
  redis.call('ZADD', KEYS[6], ask.now, start[1])
  redis.call('HSET', KEYS[7], start[1], start[2])
end
return 'done'
