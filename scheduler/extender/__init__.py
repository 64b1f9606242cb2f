"""The HTTP face towards kube-scheduler: filter, prioritize, preempt, bind.

`wire` knows the JSON, `asks` reads a pod, `server` joins both to the view, `binding` creates
Bindings at the API server, `process` runs the server in a process of its own, so that neither
building nor solving a plan ever delays an answer.
"""
