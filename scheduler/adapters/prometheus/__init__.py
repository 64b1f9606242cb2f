"""What the engines say, read from a Prometheus that scrapes them.

connection  the queries over HTTP, each with a time-out; one error class
names       candidate metric names per meaning, for vLLM and SGLang
engines     which series are a role's: labels, namespace and pod names, and what is there of them
queries     the PromQL of a look at one role, and of its demand bins
reading     a look's answer becomes a role's signal and its measured capacity
bins        a range's answer becomes demand bins
ranges      which bins to ask for: those not yet told, and recent ones that data came late for
demand      the demand bins of all models, told once
doubts      bins that are known to miss engines
signals     `PrometheusSignals`, the port; holds what was seen last
gpus        how busy the GPUs are, from DCGM

A look is one instant query per role: its terms are joined by `or`, each with a label `meaning`.
Demand is one range query per role and two days. An index query finds which names and labels
there are; its answer is remembered.
"""
