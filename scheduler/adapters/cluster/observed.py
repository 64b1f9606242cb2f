"""All objects of a cluster that Tidal reads, at one instant.

`watching` makes it; `assembly`, `complaints` and the actuator read it.
"""

from collections.abc import Mapping

import msgspec

from scheduler.adapters.cluster.cardless import Amount
from scheduler.apiserver import objects


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The newest known version of every object; kinds that the server does not know are empty."""

    nodes: tuple[objects.Node, ...] = ()
    pods: tuple[objects.Pod, ...] = ()
    """Pods that ask for a GPU resource, in any phase."""
    cardless: Mapping[str, Amount] = {}
    """Node -> what the pods there hold that ask for none."""
    jobs: tuple[objects.Job, ...] = ()
    deployments: tuple[objects.Replicated, ...] = ()
    stateful_sets: tuple[objects.Replicated, ...] = ()
    leader_worker_sets: tuple[objects.LeaderWorkerSet, ...] = ()
    role_based_groups: tuple[objects.RoleBasedGroup, ...] = ()
    scaling_adapters: tuple[objects.ScalingAdapter, ...] = ()
    autoscalers: tuple[objects.Autoscaler, ...] = ()
    scaled_objects: tuple[objects.Autoscaler, ...] = ()
    budgets: tuple[objects.DisruptionBudget, ...] = ()
    priority_classes: tuple[objects.PriorityClass, ...] = ()
