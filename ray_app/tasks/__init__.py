"""Work not lost: tasks in Redis, slots that do them, and the scheduler.

task work names      what a task, a handler and its run are; handlers by name
queue script         the queue as producers see it; queue.lua: every change of a task
pools backlog scaling  queues with weights, and how many replicas they ask for
slot running interrupt seat  a process that does one task at a time
guard worker         what forks slots, renews their leases and ends them
schedule due policy  when what runs, and what becomes of a due time: all of it pure
schedules operate    schedules in Redis (schedule.lua): standing, ledger, outbox; what operators do with them
scheduler scheduler_thread  the loop that holds the lease, decides and hands over (lead.lua, delivered.lua)
relay figures desk   ended attempts on their way to the history, and figures: one replica of all has the desk
inspection           what operators see of workers, queues and pools, and how they steer
deployments actors   [ray] Workers, Steward, Scheduler
"""
