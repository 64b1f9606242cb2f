"""Joins the parts into running daemons: `world` for a virtual cluster, `cluster` for a real one."""
