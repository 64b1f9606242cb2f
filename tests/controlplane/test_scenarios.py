"""Days in the life of a cluster, in minutes: what users see when Tidal runs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.kinds.world import eventually
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rig import Rig, rig_of

pytestmark = pytest.mark.controlplane


@pytest.fixture
def rig(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    with rig_of(plane, namespace, tmp_path) as one:
        yield one


CHAT = {"chat/decode": {"target": {"kind": "Deployment", "name": "chat"}}}


def test_the_tide_lends_takes_back_and_lends_again(rig: Rig) -> None:
    rig.nodes(2)
    rig.scheduler()
    rig.deployment("chat", 1)
    rig.job("night", gpus=8)
    script = rig.start(rig.policy(CHAT), chat__decode=900)
    rig.has_ready("chat", 1)
    rig.has_ready("night", 1)
    script.say("chat/decode", 11_500)
    rig.has_ready("chat", 12)
    assert rig.suspended("night")
    script.say("chat/decode", 900)
    eventually(lambda: not rig.suspended("night"), "the job runs again", 240)
    rig.has_ready("night", 1)
