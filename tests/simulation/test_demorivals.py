"""The search for each rival's setting at equal SLO, with real runs on a small world."""

import threading
from collections.abc import Iterator

import msgspec
import pytest

from scheduler.simulation.clusterfile import build
from scheduler.simulation.compare import Record, attains
from scheduler.simulation.contenders import Contender
from scheduler.simulation.demorivals import SETTINGS, RivalSearch, rival_run
from scheduler.simulation.generated import generate
from scheduler.simulation.run import Setup, run
from scheduler.simulation.worldfile import load_world
from tests.fixtures.calm import calm

HOUR = 3600.0
BIN = 600.0
EAGER = Setup(
    world=load_world(),
    cluster=build(2),
    traces={"code": generate("code", 1.0, 1)},
    history_seconds=12 * HOUR,
    days=0.5 / 24,
    peak_share=0.5,
    demand_shares={},
    jobs=None,
)
SETUP = msgspec.structs.replace(EAGER, policy=calm(EAGER))


@pytest.fixture
def search() -> Iterator[RivalSearch]:
    made = RivalSearch(("static",), SETUP, 1, BIN)
    yield made
    made.stop()


def pursued(search: RivalSearch, tidal: Record) -> Record:
    while not search.pursue(tidal, 1):
        threading.Event().wait(0.05)
    return search.chosen(tidal)["static"].record(1)


def test_a_run_has_the_figures_of_simulate_and_a_timeline() -> None:
    contender = Contender("static", "1")
    made = rival_run(SETUP, contender, 1, BIN)
    assert made.figures == run(SETUP, contender, 1)
    assert len(made.timeline.ready) == (6 * HOUR + 0.5 * HOUR) / BIN


def test_the_stingiest_setting_that_attains_is_found_and_its_neighbour_fails(
    search: RivalSearch,
) -> None:
    easy = {"policy": "tidal", "slo_attainment": 0.0, "slo_attainment_worst_model": 0.0}
    assert pursued(search, easy)["setting"] == f"{SETTINGS['static'][0]:g}"
    hard = {"policy": "tidal", "slo_attainment": 0.97, "slo_attainment_worst_model": 0.97}
    found = pursued(search, hard)
    before = len(search.runs())
    assert before <= len(SETTINGS["static"])
    ran = {one.setting: one.record(1) for one in search.runs()}
    for setting, record in ran.items():
        assert attains(record, hard) == (float(setting) >= float(found["setting"]))
    assert search.pursue(hard, 1)
    assert len(search.runs()) == before


def test_what_runs_can_be_ended(search: RivalSearch) -> None:
    tidal = {"policy": "tidal", "slo_attainment": 1.0, "slo_attainment_worst_model": 1.0}
    assert not search.pursue(tidal, 1)
    assert not search.pursue(tidal, 1)
    search.stop()
    assert len(search.runs()) == 0
    assert search.runs() == ()
    assert search.chosen(tidal) == {}


def test_a_run_in_vain_makes_room(search: RivalSearch) -> None:
    easy = {"policy": "tidal", "slo_attainment": 0.0, "slo_attainment_worst_model": 0.0}
    pursued(search, easy)
    hard = {"policy": "tidal", "slo_attainment": 2.0, "slo_attainment_worst_model": 2.0}
    assert not search.pursue(hard, 1)
    search.drop_vain(easy)
    assert search.pursue(easy, 1)
    assert [one.setting for one in search.runs()] == ["0.7", "0.8", "1"]


def test_settings_go_from_stingy_to_generous() -> None:
    assert list(SETTINGS["static"]) == sorted(SETTINGS["static"])
    assert list(SETTINGS["hpa"]) == sorted(SETTINGS["hpa"], reverse=True)
