"""A real cluster behind the ports: read by list and watch, changed by guarded writes.

`watching` keeps the objects, `observed` is all of them at one instant, `assembly` turns that into
a snapshot, `observer` adds the signals; `drivers` know the kinds of workloads, `actuator` acts.
`lease`, `shared` and `policymap` hold what several replicas of Tidal share.
"""
