"""How fast elmer is, measured beside what it could be at best (docs/performance.md).

Read in this order: `loads` (what a client does), `floor` (a file system that does nothing but
answer), `systems` (what is measured), `scratch` (whatever a run starts, it ends), `mount` (the
table), `replication` with `replicas` and `proxy` (two replicas), `merge` with `divergence`, `merging` and
`merge_files` (what was done apart), `hotspots` (where the time goes).
Run them as modules from the top of the repository: `python -m benchmarks.mount --quick`.
"""
