"""Who takes part in a comparison: Tidal, its ablations, its rivals, each with its settings.

A contender is a policy, a planner and a name; settings are the documented grid of its one knob.
"""

from collections.abc import Callable

import msgspec

from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy, ScaleDown
from scheduler.ports import Planner
from scheduler.simulation import rivals
from scheduler.simulation.compare import TIDAL


class Contender(msgspec.Struct, frozen=True):
    """One run's planner by name; it is built where it runs, so that it may cross processes."""

    policy: str
    setting: str = ""

    def planner(self, peaks_milli: dict[str, int]) -> Planner:
        """Return the planner; `peaks_milli` is the hindsight peak per role, for `static`."""
        match self.policy:
            case "static":
                share = float(self.setting)
                return rivals.static({key: round(share * n) for key, n in peaks_milli.items()})
            case "hpa":
                return rivals.hpa(float(self.setting))
            case _:
                return plan

    def adapted(self, policy: Policy) -> Policy:
        """Return the policy under which it runs: an ablation switches one part off."""
        change = CHANGES.get(self.policy)
        return change(policy) if change else policy


def _last_value(policy: Policy) -> Policy:
    return policy.model_copy(
        update={"forecast": policy.forecast.model_copy(update={"members": ("last",)})}
    )


def _greedy(policy: Policy) -> Policy:
    return policy.model_copy(
        update={"packing": policy.packing.model_copy(update={"program": False})}
    )


def _hpa_window(policy: Policy) -> Policy:
    """The HPA remembers votes for its own window."""
    brake = ScaleDown(stabilization_window_seconds=rivals.HPA_STABILIZATION_SECONDS)
    models = {
        name: model.model_copy(
            update={
                "roles": {
                    role: profile.model_copy(update={"scale_down": brake})
                    for role, profile in model.roles.items()
                }
            }
        )
        for name, model in policy.models.items()
    }
    return policy.model_copy(update={"models": models})


CHANGES: dict[str, Callable[[Policy], Policy]] = {
    "hpa": _hpa_window,
    "tidal-lastvalue": _last_value,
    "tidal-greedy": _greedy,
}
ABLATIONS = ("tidal-lastvalue", "tidal-greedy")
GRIDS: dict[str, tuple[float, ...]] = {
    "static": rivals.STATIC_SHARES,
    "hpa": rivals.HPA_TARGETS,
}
NAMES = (*GRIDS, *ABLATIONS)


def grid(name: str) -> tuple[Contender, ...]:
    """Return a contender in each of its settings."""
    if name in GRIDS:
        return tuple(Contender(name, f"{value:g}") for value in GRIDS[name])
    return (Contender(name),)


def tidal() -> Contender:
    """Return Tidal itself."""
    return Contender(TIDAL)
