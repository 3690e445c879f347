-- The task queue: every change of a task is one call of this script, made by queue.py, slot.py and guard.py.
-- KEYS[1] prefix   ARGV[1] operation   ARGV[2] for how long an ended task is kept (ms)   ARGV[3] JSON of the operation
-- Above this line script.py puts MOVES: which state may follow which, as task.py has it. Keys:
-- <prefix>:task:<id>     hash: the task            <prefix>:queue:<name>  list: ids that may begin
-- <prefix>:open          ids that have not ended          <prefix>:server        hash: which Redis, since when (ms)
-- <prefix>:delayed       ids by due time           <prefix>:leases        ids of running ones by the end of their lease
-- <prefix>:ended, :dead  ids by end                <prefix>:deps:<id>     ids that wait for this one
-- <prefix>:log:<id>      list: lines of its runs   <prefix>:children:<id> ids that it submitted
-- <prefix>:idem:<key>    id of an idempotency key  <prefix>:wake:<queue>  list: tokens that wake idle slots
-- <prefix>:turns:<pool>  hash: whose turn it is    <prefix>:turn:<slot>   its last claim, so that one can be repeated
-- <prefix>:pool:<pool>   hash: what operators want <prefix>:rate:<name>   when the next start is free
-- <prefix>:history       list: what is to be shipped  <prefix>:counts     hash: name|state -> how many, name|ms -> time
local P, op, KEEP, ask = KEYS[1] .. ':', ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[3])
local SOON, TOKENS, MOST_DUE, LINES, NOTED, clock = 1000, 16, 100, 1000, 65536, redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ENDED, LAST = {SUCCESS = true, FAILURE = true, REVOKED = true}, '[\192-\255][\128-\191]*$' -- half a character

local function task(id) return P .. 'task:' .. id end
local function move(id, to)
  local from = redis.call('HGET', task(id), 'state')
  if not from or not MOVES[from][to] then return false end
  redis.call('HSET', task(id), 'state', to)
  return true
end

local function wake(queue)
  local key = P .. 'wake:' .. queue
  if redis.call('LLEN', key) < TOKENS then redis.call('LPUSH', key, 1) end
end

-- At the end of its queue, or at its head: what had begun before goes on first.
local function ready(id, queue, first)
  redis.call(first and 'LPUSH' or 'RPUSH', P .. 'queue:' .. queue, id)
  redis.call('HSET', task(id), 'ready_at', now)
  wake(queue)
end

local function delay(id, queue, due)
  redis.call('ZADD', P .. 'delayed', due, id)
  if due - now < SOON then wake(queue) end
end

-- What is shipped to the history, once for each attempt that ended; of what is long the first NOTED bytes.
local function note(id)
  local flat, record = redis.call('HGETALL', task(id)), {}
  for i = 1, #flat, 2 do
    record[flat[i]] = #flat[i + 1] > NOTED and flat[i + 1]:sub(1, NOTED):gsub(LAST, '', 1) or flat[i + 1]
  end
  record.noted_at = now
  redis.call('RPUSH', P .. 'history', cjson.encode(record))
  local name, began = record.name, tonumber(record.started_at)
  redis.call('HINCRBY', P .. 'counts', name .. '|' .. record.state, 1)
  if began > 0 then redis.call('HINCRBY', P .. 'counts', name .. '|ms', math.max(0, now - began)) end
end

-- One that ended, and those that waited for it: they begin, or end too where it did not succeed.
local function close(id, to, error, result, dead)
  local todo = {{id, to, error, result, dead}}
  while #todo > 0 do
    local one = table.remove(todo)
    local id, to, key = one[1], one[2], task(one[1])
    if move(id, to) then
      redis.call('HSET', key, 'ended_at', now, 'error', one[3], 'result', one[4], 'owner', '', 'following', '')
      for _, k in ipairs({'delayed', 'open'}) do redis.call('ZREM', P .. k, id) end
      note(id)
      redis.call('ZADD', P .. 'ended', now, id)
      if one[5] then
        redis.call('ZADD', P .. 'dead', now, id)
      else
        for _, k in ipairs({key, P .. 'log:' .. id, P .. 'children:' .. id}) do redis.call('PEXPIRE', k, KEEP) end
      end
      for _, d in ipairs(redis.call('SMEMBERS', P .. 'deps:' .. id)) do
        local t = redis.call('HMGET', task(d), 'state', 'whatever', 'queue', 'eta')
        if t[1] and not ENDED[t[1]] then
          if to ~= 'SUCCESS' and t[2] ~= '1' then
            todo[#todo + 1] = {d, 'FAILURE', 'task ' .. id .. ', for which it waited, ended as ' .. to, '', true}
          elseif redis.call('HINCRBY', task(d), 'waits', -1) == 0 then
            if tonumber(t[4]) > now then delay(d, t[3], t[4]) else ready(d, t[3], t[1] == 'STARTED') end
          end
        end
      end
      redis.call('DEL', P .. 'deps:' .. id)
    end
  end
end

-- Counts those of `after` that have not ended, and waits for them; also the first that failed, unless `whatever`.
local function wait_for(id, after, whatever)
  local waits, failed, seen = 0, nil, {}
  for _, on in ipairs(after) do
    local state = redis.call('HGET', task(on), 'state')
    if seen[on] then -- it counts once; whether an older wait left its mark there does not matter
    elseif state and not ENDED[state] then
      redis.call('SADD', P .. 'deps:' .. on, id)
      waits, seen[on] = waits + 1, true
    elseif state ~= 'SUCCESS' and not whatever then
      failed = failed or on
    end
  end
  redis.call('HSET', task(id), 'waits', waits)
  return waits, failed
end

local function begin(id, after, whatever, queue, eta)
  local waits, failed = wait_for(id, after, whatever)
  if failed then
    close(id, 'FAILURE', 'task ' .. failed .. ', for which it waits, did not succeed', '', true)
  elseif waits == 0 then
    if eta > now then delay(id, queue, eta) else ready(id, queue) end
  end
end

local function add(t)
  if redis.call('EXISTS', task(t.id)) == 1 then return t.id end
  if t.key ~= '' then
    local key = P .. 'idem:' .. t.tenant .. ':' .. t.key
    if not redis.call('SET', key, t.id, 'NX', 'PX', t.key_keep) then return redis.call('GET', key) end
  end
  redis.call('HSET', task(t.id), 'id', t.id, 'name', t.name, 'tenant', t.tenant, 'queue', t.queue, 'argument',
    t.argument, 'state', 'PENDING', 'attempt', 0, 'tries', t.tries, 'submitted_at', now, 'eta', t.eta, 'started_at', 0,
    'ended_at', 0, 'parent', t.parent, 'group', t.group, 'trace', t.trace, 'key', t.key, 'whatever', t.whatever,
    'after', cjson.encode(t.after), 'owner', '', 'error', '', 'result', '', 'following', '', 'progress', '')
  redis.call('ZADD', P .. 'open', now, t.id)
  if t.parent ~= '' then redis.call('SADD', P .. 'children:' .. t.parent, t.id) end
  if redis.call('HGET', task(t.parent), 'cancel') == '1' then
    close(t.id, 'REVOKED', 'task ' .. t.parent .. ', which asked for it, was cancelled', '', false)
  else
    begin(t.id, t.after, t.whatever == 1, t.queue, t.eta)
  end
  return t.id
end

-- submit: {tasks}. All or none: what they wait for must be known. Returns ids, or {'', the unknown one}.
local function submit()
  local mine = {}
  for _, t in ipairs(ask) do
    for _, on in ipairs(t.after) do
      if not mine[on] and redis.call('EXISTS', task(on)) == 0 then return {'', on} end
    end
    mine[t.id] = true
  end
  local ids, is = {}, {}
  for i, t in ipairs(ask) do
    for k, on in ipairs(t.after) do t.after[k] = is[on] or on end -- its key may stand for an older task
    ids[i] = add(t)
    is[t.id] = ids[i]
  end
  return ids
end

local function mine(id, token)
  local t = redis.call('HMGET', task(id), 'state', 'owner', 'following')
  return t[1] == 'STARTED' and (t[2] == token or t[3] ~= '' and token == 'job:' .. t[3])
end

local function tell_line(id, line)
  redis.call('RPUSH', P .. 'log:' .. id, line)
  redis.call('LTRIM', P .. 'log:' .. id, -LINES, -1)
end

-- The end of an attempt, told by whoever has it: 1 done, 0 refused: another has it, or it has ended. `lost`: told by
-- another than its slot, whose own word is refused from now on.
local function finish(f)
  local key = task(f.id)
  if redis.call('HGET', key, 'last') == f.token then return 1 end -- told twice, since the first answer was lost
  if not mine(f.id, f.token) then return 0 end
  redis.call('HSET', key, 'last', f.lost and '' or f.token)
  redis.call('ZREM', P .. 'leases', f.id)
  if f.line then tell_line(f.id, f.line) end
  local t = redis.call('HMGET', key, 'queue', 'cancel', 'following', 'tries')
  local queue, cancelled = t[1], t[2] == '1'
  if f.lost and t[3] ~= '' and redis.call('HINCRBY', key, 'lost', 1) <= tonumber(t[4]) then -- its job goes on
    f.outcome, f.following, f.due = 'PARKED', t[3], now + SOON
  end
  if cancelled and (f.outcome == 'RETRY' or f.outcome == 'PENDING' or f.outcome == 'PARKED' and f.following == '') then
    close(f.id, 'REVOKED', 'cancelled', '', false)
  elseif f.outcome == 'RETRY' then
    redis.call('HSET', key, 'error', f.error, 'owner', '', 'eta', f.due, 'following', '', 'ended_at', now)
    move(f.id, 'RETRY')
    note(f.id)
    if f.due > now then delay(f.id, queue, f.due) else ready(f.id, queue) end
  elseif f.outcome == 'PENDING' then
    redis.call('HSET', key, 'owner', '', 'started_at', 0)
    redis.call('HINCRBY', key, 'attempt', -1)
    move(f.id, 'PENDING')
    ready(f.id, queue, true)
  elseif f.outcome == 'PARKED' then
    redis.call('HSET', key, 'owner', '', 'following', f.following, 'whatever', 1)
    if f.following ~= '' then -- where it is cancelled, the slot that looks next ends the job
      delay(f.id, queue, f.due)
    elseif wait_for(f.id, f.after, true) == 0 then
      ready(f.id, queue, true)
    end
  else
    close(f.id, f.outcome, f.error, f.result, f.dead)
  end
  return 1
end

local function promote()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, MOST_DUE)) do
    redis.call('ZREM', P .. 'delayed', id)
    local t = redis.call('HMGET', task(id), 'queue', 'state', 'rated')
    if t[1] and not ENDED[t[2]] then ready(id, t[1], t[2] == 'STARTED' or t[3] and t[3] ~= '') end
  end
end

-- Smooth weighted round robin over the queues that have something: each gets its share, none is starved.
local function choose(pool, queues)
  local open, total = {}, 0
  for name, weight in queues:gmatch('([^:+]+):(%d+)') do
    if redis.call('LLEN', P .. 'queue:' .. name) > 0 then
      open[#open + 1] = {name, tonumber(weight)}
      total = total + tonumber(weight)
    end
  end
  if #open < 2 then return open[1] and open[1][1] end
  local turns, best, most = P .. 'turns:' .. pool, nil, nil
  for _, one in ipairs(open) do
    local credit = redis.call('HINCRBY', turns, one[1], one[2])
    if not most or credit > most then best, most = one[1], credit end
  end
  redis.call('HINCRBY', turns, best, -total)
  return best
end

-- When the next start of this handler is free. One that must wait takes that place, and keeps it unless it comes so
-- late (a paused pool, busy slots) that many would start at once.
local function free_at(t, rate)
  if now - (tonumber(t[7]) or 0) < math.max(rate.ms, SOON) then return now end
  local key = P .. 'rate:' .. t[2] .. (rate.by_tenant and ':' .. t[6] or '')
  local at = math.max(now, tonumber(redis.call('GET', key) or 0))
  redis.call('SET', key, at + rate.ms, 'PX', math.ceil(at - now + rate.ms + 60000))
  return math.floor(at)
end

local function take(id, c)
  local key = task(id)
  local t = redis.call('HMGET', key, 'state', 'name', 'owner', 'attempt', 'queue', 'tenant', 'rated')
  local goes_on = t[1] == 'STARTED' and t[3] == ''
  if not (t[1] == 'PENDING' or t[1] == 'RETRY' or goes_on) then return false end
  if redis.call('SISMEMBER', c.known, t[2]) == 0 then -- for a worker that knows it
    delay(id, t[5], now + SOON)
    return false
  end
  local rate = c.rates[t[2]]
  if rate and not goes_on then
    local at = free_at(t, rate)
    if at > now then
      redis.call('HSET', key, 'rated', at)
      delay(id, t[5], at)
      return false
    end
  end
  local attempt = goes_on and tonumber(t[4]) or tonumber(t[4]) + 1
  redis.call('HSET', key, 'owner', c.token, 'attempt', attempt, 'rated', '', 'error', '')
  if not goes_on then
    redis.call('HSET', key, 'started_at', now, 'ended_at', 0, 'lost', 0)
    move(id, 'STARTED')
  end
  redis.call('ZADD', P .. 'leases', now + c.lease, id)
  redis.call('SET', P .. 'turn:' .. c.slot, c.token .. ' ' .. id, 'PX', c.lease)
  return true
end

-- The next task of the pool's queues, or false, and whether to ask again; the same token again gets the same task.
local function claim(c)
  local token, id = (redis.call('GET', P .. 'turn:' .. c.slot) or ''):match('^(%S+) (.+)$')
  if token == c.token and mine(id, token) then
    redis.call('ZADD', P .. 'leases', 'XX', now + c.lease, id)
    return id
  end
  local wanted = redis.call('HMGET', P .. 'pool:' .. c.pool, 'paused', 'queues')
  promote()
  if wanted[1] == '1' then return false end
  for _ = 1, MOST_DUE do
    local queue = choose(c.pool, wanted[2] or c.queues)
    local id = queue and redis.call('LPOP', P .. 'queue:' .. queue)
    if not id or take(id, c) then return id or false end
  end
  return false, true
end

-- turn: {finish?, claim?}: the end of one task and the beginning of the next. Returns {1 or 0 of the finish, ms until
-- the next due task or -1, JSON of the claimed task's fields and values}: one text is read faster than many.
local function turn()
  local told = ask.finish and finish(ask.finish) or 1
  if not ask.claim then return {told, -1} end
  local id, more = claim(ask.claim)
  if id or more then return {told, 0, id and cjson.encode(redis.call('HGETALL', task(id))) or nil} end
  local next = redis.call('ZRANGE', P .. 'delayed', 0, 0, 'WITHSCORES')
  return {told, next[2] and math.max(0, tonumber(next[2]) - now) or -1}
end

-- renew: {lease, held: {{id, token}...}}. Of each: 1 held, 2 held and to be cancelled, 3 it told its end, 0 lost.
local function renew()
  local answers = {}
  for i, h in ipairs(ask.held) do
    if mine(h[1], h[2]) then
      redis.call('ZADD', P .. 'leases', 'XX', now + ask.lease, h[1])
      answers[i] = redis.call('HGET', task(h[1]), 'cancel') == '1' and 2 or 1
    else
      answers[i] = redis.call('HGET', task(h[1]), 'last') == h[2] and 3 or 0
    end
  end
  return answers
end

-- tell: {id, token, progress?, line?, following?}: what a run says of itself. 1, or 0: refused. Alone it only asks.
local function tell()
  if not mine(ask.id, ask.token) then return 0 end
  if ask.progress then redis.call('HSET', task(ask.id), 'progress', ask.progress) end
  if ask.following then redis.call('HSET', task(ask.id), 'following', ask.following) end
  if ask.line then tell_line(ask.id, ask.line) end
  return 1
end

-- reap: {lease}: what nobody renewed goes to another worker. Nothing within one lease of the first look at this Redis,
-- which has begun, read its data or become the master: until then nobody could renew. Returns the ids.
local function reap()
  promote() -- where all slots are busy, so that the queue's length is true
  local run, seen = redis.call('INFO', 'server'):match('run_id:(%w+)'), redis.call('HMGET', P .. 'server', 'run', 'at')
  if seen[1] ~= run then redis.call('HSET', P .. 'server', 'run', run, 'at', now) end
  if seen[1] ~= run or now - tonumber(seen[2]) < ask.lease then return {} end
  redis.call('ZREMRANGEBYSCORE', P .. 'ended', '-inf', now - KEEP)
  local late = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', '(' .. now, 'LIMIT', 0, MOST_DUE)
  for _, id in ipairs(late) do
    local t = redis.call('HMGET', task(id), 'attempt', 'tries', 'owner', 'cancel')
    local last = (tonumber(t[1]) or 0) >= (tonumber(t[2]) or 0) and t[4] ~= '1'
    redis.call('ZREM', P .. 'leases', id)
    finish({id = id, token = t[3], outcome = last and 'FAILURE' or 'RETRY', due = now, result = '', dead = true,
      lost = true, error = 'its worker was lost: ' .. tostring(t[3])})
  end
  return late
end

local function cancel_one(id)
  local t = redis.call('HMGET', task(id), 'state', 'owner', 'following', 'queue')
  if not t[1] or ENDED[t[1]] then return end
  redis.call('HSET', task(id), 'cancel', 1)
  if t[2] ~= '' then return end -- its guard is told when it renews the lease
  if t[3] == '' then return close(id, 'REVOKED', 'cancelled', '', false) end
  redis.call('ZREM', P .. 'delayed', id) -- the slot that looks at its job next ends the job first
  ready(id, t[4], true)
end

-- cancel: {id}: it and all that it submitted. Returns its state, or '' where it is unknown.
local function cancel()
  local todo, seen = {ask.id}, {}
  while #todo > 0 do
    local id = table.remove(todo)
    seen[id] = true
    cancel_one(id)
    for _, child in ipairs(redis.call('SMEMBERS', P .. 'children:' .. id)) do
      if not seen[child] then todo[#todo + 1] = child end
    end
  end
  return redis.call('HGET', task(ask.id), 'state') or ''
end

-- replay: {ids}: dead letters begin anew, with all their tries; they wait again for those of `after` that are replayed
-- too, and fail again where one did not succeed. Returns the ids of those that were dead letters.
local function replay()
  local again = {}
  for _, id in ipairs(ask.ids) do
    if redis.call('ZREM', P .. 'dead', id) == 1 and move(id, 'PENDING') then
      redis.call('ZREM', P .. 'ended', id)
      redis.call('ZADD', P .. 'open', now, id)
      redis.call('HSET', task(id), 'attempt', 0, 'ended_at', 0, 'error', '', 'cancel', 0, 'last', '')
      again[#again + 1] = id
    end
  end
  for _, id in ipairs(again) do
    local t, known = redis.call('HMGET', task(id), 'after', 'whatever', 'queue'), {}
    for _, on in ipairs(cjson.decode(t[1])) do
      if redis.call('EXISTS', task(on)) == 1 then known[#known + 1] = on end -- else it succeeded long ago
    end
    begin(id, known, t[2] == '1', t[3], 0)
  end
  return again
end

-- drop: {ids}: dead letters are forgotten. Returns the ids of those that were dead letters.
local function drop()
  local gone = {}
  for _, id in ipairs(ask.ids) do
    if redis.call('ZREM', P .. 'dead', id) == 1 then
      local t = redis.call('HMGET', task(id), 'tenant', 'key')
      local key = P .. 'idem:' .. tostring(t[1]) .. ':' .. tostring(t[2])
      if redis.call('GET', key) == id then redis.call('DEL', key) end
      redis.call('ZREM', P .. 'ended', id)
      redis.call('DEL', task(id), P .. 'log:' .. id, P .. 'children:' .. id)
      gone[#gone + 1] = id
    end
  end
  return gone
end

local ops = {submit = submit, turn = turn, renew = renew, tell = tell, reap = reap, cancel = cancel, replay = replay}
return (ops[op] or drop)()
