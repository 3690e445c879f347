-- One flow advances one partition: all changes and the position, or nothing.
-- KEYS[1] position   KEYS[2] ids seen lately (sorted set: id -> appended_at)
-- ARGV: expected start, end, appended_at of the batch's last entry, repeat window in ms, packed operations (msgpack)
-- An operation is {once, command, key, args...}, `once` an event id or ''; or, with a table first,
-- {keys, targets, ids, times, targets of the events, numbers to add}: see Sums in state.py.
-- Returns {position, 1 if applied}.
local at = tonumber(redis.call('GET', KEYS[1]) or '0')
if at ~= tonumber(ARGV[1]) then return {at, 0} end -- guard

local MOST = 1000  -- ids of one command
local repeated = {}  -- ids that an earlier batch applied; one id may carry several operations of this batch
local function is_repeated(once, time)
  if repeated[once] == nil then
    repeated[once] = redis.call('ZADD', KEYS[2], 'NX', time, once) == 0
  end
  return repeated[once]
end

-- The same of the ids first to last, in two commands: one for each id is half of what a batch costs.
local function look(ids, times, first, last)
  local known, new = redis.call('ZMSCORE', KEYS[2], unpack(ids, first, last)), {}
  for k = first, last do
    local id = ids[k]
    if repeated[id] == nil then
      repeated[id] = known[k - first + 1] ~= false
      if not repeated[id] then
        new[#new + 1] = times[k]
        new[#new + 1] = id
      end
    end
  end
  if #new > 0 then redis.call('ZADD', KEYS[2], unpack(new)) end
end

local function add(keys, targets, ids, times, of, by)
  for first = 1, #ids, MOST do
    look(ids, times, first, math.min(first + MOST - 1, #ids))
  end
  local sums = {}
  for k, id in ipairs(ids) do
    if not repeated[id] then
      local t = of[k] + 1
      sums[t] = (sums[t] or 0) + by[k]
    end
  end
  for t, target in ipairs(targets) do
    for i = 2, sums[t] and #target or 0 do
      redis.call('HINCRBY', keys[target[i] + 1], target[1], sums[t])
    end
  end
end

for _, op in ipairs(cmsgpack.unpack(ARGV[5])) do
  if type(op[1]) == 'table' then
    add(unpack(op))
  elseif op[1] == '' or not is_repeated(op[1], op[2]) then
    redis.call(unpack(op, 3))
  end
end
-- Only now: a batch may span more than the window, and its first entries still need what came just before them.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', tonumber(ARGV[3]) - tonumber(ARGV[4]))
redis.call('SET', KEYS[1], ARGV[2])
return {tonumber(ARGV[2]), 1}
