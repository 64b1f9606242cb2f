"""Ports over this machine's files; an adapter turns the outside's words into values, no more.

ledger     `ports.Ledger` over SQLite
deltas     snapshots as differences, for the ledger
statefile  the forecaster's state in a file beside the ledger
policyfile the policy in force, read again when its file changes
"""
