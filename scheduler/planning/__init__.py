"""The decision: plan(snapshot, memory, policy, effort) -> Plan, Memory.

Pure: a snapshot carries its own time, memory goes in and comes out, and the same values give the
same plan. A plan is a tuple of actions, each with its reason; nothing here carries one out.
"""
