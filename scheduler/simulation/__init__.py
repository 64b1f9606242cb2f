"""The virtual world behind the same ports: cluster, clock, demand, batch, faults, and their report.

The planner runs here unchanged. What is true in this world (speeds, ready times, noise) stands in a
world file that the planner never reads, and every draw comes from a generator with a given seed.
"""
