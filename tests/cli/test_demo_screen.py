"""The demo while it plays, as lines and as a panel."""

import io

import msgspec
import pytest
from rich.console import Console

from scheduler.cli import demoscreen
from scheduler.cli.demoscreen import Screen
from scheduler.simulation.demo import Opened, Scene
from scheduler.simulation.timeline import Recalled, Timeline
from scheduler.simulation.worldwire import RoleCount, WorldProgress

TIMELINE = Timeline(
    start_seconds=-600.0,
    bin_seconds=300.0,
    ready=(16.0, 16.0),
    online_productive=(2.0, 4.0),
    online_idle=(2.0, 1.0),
    batch_kept=(6.0, 8.0),
    batch_lost=(2.0, 1.0),
    demand_tokens_per_second={"chat": (1000.0, 2000.0)},
    recalls=(Recalled(0.0, late=True), Recalled(0.0, late=False)),
)
PROGRESS = WorldProgress(
    now_seconds=0.0,
    start_seconds=-600.0,
    end_seconds=1800.0,
    ended=False,
    unplanned=False,
    loans=3,
    stops=2,
    slo_attainment=0.9987,
    slo_attainment_worst_model=0.99,
    roles=(RoleCount("chat/decode", ready=4, coming=1, draining=2),),
    timeline=TIMELINE,
    placed_by_extender=10,
    placed_by_default=0,
)
SCENE = Scene(progress=PROGRESS, wall_seconds=10.0, daemon_pid=4711)


def rendered(scene: Scene) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(demoscreen.panel(scene))
    return capture.get()


def test_a_line_says_where_the_tide_is() -> None:
    assert demoscreen.line(SCENE) == (
        "+00:00  25%  online 5 GPUs, batch 9 on 3 loans, recalls 2, stops 2, "
        "utilisation 62.5%, SLO 99.87%, 30s left"
    )


@pytest.mark.parametrize(
    ("scene", "remark"),
    [
        (msgspec.structs.replace(SCENE, daemon_pid=None), "the world waits"),
        (
            msgspec.structs.replace(
                SCENE, progress=msgspec.structs.replace(PROGRESS, unplanned=True)
            ),
            "runs on without a planner",
        ),
    ],
)
def test_a_missing_daemon_is_said(scene: Scene, remark: str) -> None:
    assert remark in demoscreen.line(scene)
    assert remark in rendered(scene)
    assert remark not in demoscreen.line(SCENE)


def test_the_panel_shows_tide_roles_and_batch() -> None:
    text = rendered(SCENE)
    for part in ("chat", "▅█", "2,000 tokens/s", "4 ready", "+1 coming", "-2 draining", "25%"):
        assert part in text
    for part in ("loans 3", "preemptions 2", "recalls 2, late 1", "62.5%", "99.87%"):
        assert part in text


def test_before_the_first_step_nothing_is_known() -> None:
    bare = msgspec.structs.replace(
        PROGRESS,
        now_seconds=-600.0,
        slo_attainment=None,
        timeline=Timeline(
            start_seconds=-600.0,
            bin_seconds=300.0,
            ready=(),
            online_productive=(),
            online_idle=(),
            batch_kept=(),
            batch_lost=(),
            demand_tokens_per_second={},
            recalls=(),
        ),
    )
    scene = msgspec.structs.replace(SCENE, progress=bare)
    assert "SLO -, - left" in demoscreen.line(scene)
    assert rendered(scene)


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ((), ""),
        ((0.0, 0.0), "▁▁"),
        ((1.0, 2.0, 4.0, 8.0), "▂▃▅█"),
        ((1.0,) * 120, "█" * 60),
        ((4.0, 0.0) * 60, "█" * 60),
    ],
)
def test_a_spark_is_as_high_as_its_share_of_the_highest(
    values: tuple[float, ...], bars: str
) -> None:
    assert demoscreen.spark(values) == bars


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "+00:00"), (-60, "-00:01"), (86400, "+24:00"), (27_300, "+07:35")]
)
def test_the_clock(seconds: float, text: str) -> None:
    assert demoscreen.clock(seconds) == text


def test_without_a_terminal_lines_are_few_and_standard_output_stays_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Screen() as screen:
        screen.opened(Opened("http://world", "http://api", 4711))
        for wall in (0.0, 1.0, 4.9, 5.0, 9.0, 10.1):
            screen.shown(msgspec.structs.replace(SCENE, wall_seconds=wall))
        screen.said("something")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 3 + 3 + 1
    assert "scalerctl status --server http://api" in shown.err
    assert "process 4711" in shown.err
