"""Lemo: a recommendation platform on Ray.

types errors config clock logs sqlite cancel  values, errors, settings, time, logs, SQLite files, ended tasks
cluster      connect, detached actors, submit a job, settings of the running cluster
events/      what happened: schema, the log
stores/      what we remember: documents, state, vectors, analytics, blobs, the embedded children
streams/     read in order: the engine of flows
tasks/       work not lost: the queue, slots and guards, history, the seat of the scheduler
catalog/     what there is: tenant, store, item, user, scenario, rule, rows, changes, shelf
access/      who may: API keys
features/    what it means: hot, profile, and the view of training and serving
models/      what we believe: text, item CF, rankers, diversity, evaluation
registry/    which is live: versions of trained artifacts
recommend/   the answer: recall, rank, rerank, fallback
analytics/   what it added up to: realtime counts, training examples
flows/       one file a flow: items, behaviors, slates, hot, metrics, profile, neural, tasks
training/    change our mind: datasets, fits, evaluation, gates, lists made beforehand
content/     where items come from: sources, fetching, extraction, copies
neural/      what shops report: events of stores, and what each does
operations/  keep it well: import of files, the first load, lemo check, health, cleanup, reports
serving/     the doors: use cases, HTTP, gRPC
wiring/      the only place that chooses implementations
launch       `lemo up`: start it all, and leave nothing behind
cli/         the command `lemo`
"""
