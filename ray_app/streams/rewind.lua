-- A rebuilt generation of a flow's state takes the place of the live one, if it is at least as far in every place.
-- KEYS[1] control hash   then n live positions   then n rebuilt positions
-- ARGV: field of the generation, the live generation, the rebuilt one
-- Returns 1: swapped; 0: not far enough yet; -1: another has swapped meanwhile.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '0') ~= ARGV[2] then return -1 end
local n = (#KEYS - 1) / 2
for i = 2, n + 1 do
  if tonumber(redis.call('GET', KEYS[i]) or '0') > tonumber(redis.call('GET', KEYS[i + n]) or '0') then return 0 end
end
for i = 2, n + 1 do redis.call('SET', KEYS[i], '-1') end  -- no writer of the old generation is let in again
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
