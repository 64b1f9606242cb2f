"""Talks to a Kubernetes API server: the connection, the objects on the wire, list and watch.

Knows no GPUs and no plans; the adapters and the fake kubelet of the simulation build on it.
"""
