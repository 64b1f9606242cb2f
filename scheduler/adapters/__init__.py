"""The real world behind the ports: the only modules of Tidal that import its clients.

One module a port. An adapter turns the outside's words into values and a plan's actions into calls;
it decides nothing.
"""
