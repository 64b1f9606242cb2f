"""The daemon: one tick as one function, the loop around it, and the API for people.

tick        observe -> forecast -> plan -> act -> record, over the ports
loop        the cadence of ticks against the world's clock
forecast    the series state between ticks
keeper      that state written to disk in a thread of its own
worker      planning in a process of its own
writebehind the ledger written in a thread of its own
documents   what the API answers, as pure functions of the last tick
api         the HTTP server that answers `scalerctl`
"""
