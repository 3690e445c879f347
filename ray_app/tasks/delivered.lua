-- The outbox lets go of what the queue has taken. KEYS: leader, outbox, bodies; ARGV: owner, epoch, id ...
-- Returns 'done', or 'fenced': another scheduler has the lease.
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 'fenced' end
for k = 3, #ARGV do
  redis.call('ZREM', KEYS[2], ARGV[k])
  redis.call('HDEL', KEYS[3], ARGV[k])
end
return 'done'
