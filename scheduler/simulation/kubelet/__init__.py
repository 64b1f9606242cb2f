"""A fake kubelet: one process that plays the kubelets of many GPU nodes on a real API server.

What it plays is what a scheduler can see and has to live with: nodes with their labels, capacity
and images; pods that are admitted to devices, pull, start, become ready, run, are told to stop,
take their time, and give their devices back only when their phase is terminal.

No GPU, image, probe or network is real: nothing is executed, a pod of several containers lives as
one, readiness is the end of the start plus the pod's readiness gates. Images are never collected,
containers never restart, and the CPU and memory of a pod count nothing.

Flow: `shell` watches pods and turns differences into events; `node` is the pure step from a state
and an event to the next state and what to tell the API server; `writer` tells it and reports back.
"""
