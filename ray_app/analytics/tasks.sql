-- name: task_history
-- Attempts that ended, the newest first; what was shipped twice counts once. A replayed task has its first attempts too.
-- Parameters: tenant ('': every one); id, task, state, group ('': every one); before (ms); n.
SELECT
  id, tenant, name, queue, attempt, state, argument, result, error, submitted_at, eta, started_at, ended_at,
  parent, task_group, trace, noted_at
FROM task_attempts FINAL
WHERE {tenant:String} IN ('', tenant) AND {id:String} IN ('', id) AND {task:String} IN ('', name)
  AND {state:String} IN ('', state) AND {group:String} IN ('', task_group) AND noted_at < {before:Int64}
ORDER BY noted_at DESC, id, attempt DESC
LIMIT {n:UInt32};
