-- Take or renew the scheduler's lease. KEYS: leader, lease; ARGV: owner, epoch that it holds (0: none), lease in ms.
-- Returns the epoch, higher with each new holder, or 0 while another holds it.
local held = redis.call('GET', KEYS[2])
local leader = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
local ours = leader[1] == ARGV[1] and leader[2] == ARGV[2]
if held and held ~= ARGV[1] then return 0 end
local epoch = ours and ARGV[2] or redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return tonumber(epoch)
