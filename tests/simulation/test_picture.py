"""The picture of a run: the same for the same run, and it shows what differs."""

from pathlib import Path

import msgspec
import pytest
from matplotlib.image import imread

from scheduler.simulation.picture import draw
from scheduler.simulation.timeline import Recalled, Timeline

FULL = Timeline(
    start_seconds=-600.0,
    bin_seconds=300.0,
    ready=(8.0,) * 6,
    online_productive=(2.0,) * 6,
    online_idle=(1.0,) * 6,
    batch_kept=(3.0,) * 6,
    batch_lost=(1.0,) * 6,
    demand_tokens_per_second={"chat": (10.0, 20.0, 30.0, 30.0, 20.0, 10.0)},
    recalls=(Recalled(300.0, late=False), Recalled(600.0, late=True)),
)
BARE = Timeline(
    start_seconds=0.0,
    bin_seconds=300.0,
    ready=(),
    online_productive=(),
    online_idle=(),
    batch_kept=(),
    batch_lost=(),
    demand_tokens_per_second={},
    recalls=(),
)


def drawn(folder: Path, tidal: Timeline, **rivals: Timeline) -> bytes:
    path = folder / "picture.png"
    draw(path, "Tidal", tidal, rivals)
    return path.read_bytes()


def test_the_same_run_gives_the_same_picture(tmp_path: Path) -> None:
    assert drawn(tmp_path, FULL, hpa=FULL) == drawn(tmp_path, FULL, hpa=FULL)


@pytest.mark.parametrize(
    "changed",
    [
        {"online_productive": (1.0,) * 6},
        {"batch_kept": (2.0,) * 6},
        {"recalls": ()},
        {"demand_tokens_per_second": {}},
        {"start_seconds": 0.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_part_is_seen(tmp_path: Path, changed: dict[str, object]) -> None:
    assert drawn(tmp_path, FULL) != drawn(tmp_path, msgspec.structs.replace(FULL, **changed))


def test_a_rival_is_seen(tmp_path: Path) -> None:
    assert drawn(tmp_path, FULL) != drawn(tmp_path, FULL, static=FULL)


def test_the_bands_are_painted_in_their_colours(tmp_path: Path) -> None:
    drawn(tmp_path, FULL)
    pixels = imread(tmp_path / "picture.png")[:, :, :3].round(2).reshape(-1, 3)
    found = {tuple(float(part) for part in pixel) for pixel in pixels[::7]}
    for colour in ((0.12, 0.37, 0.66), (0.23, 0.56, 0.3), (0.85, 0.55, 0.17)):
        assert any(
            max(abs(a - b) for a, b in zip(colour, one, strict=True)) < 0.02 for one in found
        )


def test_a_run_that_has_not_begun_is_drawn_empty(tmp_path: Path) -> None:
    assert drawn(tmp_path, BARE).startswith(b"\x89PNG")
