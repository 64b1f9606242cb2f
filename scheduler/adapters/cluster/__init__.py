"""A real cluster behind the ports: read by list and watch, changed by guarded writes.

`watching` keeps the objects, `observed` is all of them at one instant, `assembly` turns that into
a snapshot, `observer` adds the signals; `drivers` know each workload kind, `actuator` applies plans.
`lease`, `shared` and `policymap` hold what several replicas of Tidal share.
"""
