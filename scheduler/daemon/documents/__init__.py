"""What the API answers, as pure functions of the newest tick: values in, values out.

shapes    the documents; `scalerctl` decodes the same types
status    is all well, and where does every GPU go
outlook   the forecast of one model, with its past; `remarks` says how far it can be relied on
decision  the last plan, with the reasons and what became of each action
explain   one object by name: what it is, who holds what, and why; `explain_job` adds a job's terms
actions   actions and what became of them, as lines
metrics   the status once more, as OpenMetrics
"""
