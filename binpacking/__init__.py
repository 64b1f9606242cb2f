"""Capacity, and what fits where. Knows GPUs, not time.

An inventory (devices, nodes, switches) and a problem (requests, gangs, victims) go in; a packing
comes out: what stands where, and why the rest does not. An integer program decides, and a heuristic
is always ready beside it. Pure: resources are integers, ties are broken by name, no clock is read.
"""
