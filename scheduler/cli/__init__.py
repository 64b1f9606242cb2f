"""`scalerctl`, what a person calls: one module a command.

A command reads its arguments, lets `wiring` join the parts, and shows the result as a table or as
JSON. Bad input ends with one line on stderr that names the field and the fix, and exit status 2.
"""
