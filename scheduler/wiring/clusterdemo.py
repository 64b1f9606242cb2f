"""The demonstration on a real API server and kube-scheduler: the real daemon, kubelets played.

The cluster's nodes and what runs on them are played (`demoground`), demand and engines are physics
(`simulation.load`), owners of Jobs are played (`simulation.owners`). Everything between them is
real: watches, lease, plan, patches, evictions, extender. World time runs `rate` times as fast as
the wall's. What happened is read from the API server again, apart from the daemon, and folded by
the same score and timeline as any simulated run.
"""

from collections.abc import Callable
from contextlib import ExitStack

from scheduler.apiserver.client import Api
from scheduler.simulation import demomanifests as manifests
from scheduler.wiring import demoground
from scheduler.wiring.demostage import Stage
from scheduler.wiring.demovalues import Audience, ClusterDemo, Played


def play(demo: ClusterDemo, audience: Audience) -> Played:
    """Play to the end, or until KeyboardInterrupt; remove everything that was made.

    Raises `DemoError` where it cannot go on, and what the API and the daemon's parts raise where
    they cannot start.
    """
    with ExitStack() as stack:
        api = Api.load(demo.kubeconfig, demo.context)
        stack.callback(api.close)
        demoground.check(api)
        audience.said(f"cluster   {api.server}, namespace {manifests.NAMESPACE}")
        demoground.clear(api)
        if not demo.keep:
            stack.callback(_cleared, api, audience.said)
        demoground.prepare(api, demo.cluster, demo.world.batch.priorities)
        stage = Stage(demo, api, stack, audience)
        return stage.play()


def _cleared(api: Api, said: Callable[[str], None]) -> None:
    said("removing what the demo made")
    demoground.clear(api)
