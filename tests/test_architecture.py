"""The architecture, checked: who may import whom, and how long a function or a module may be."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("scheduler", "forecasting", "binpacking", "preemption")
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60

PACKAGE_ARROWS = "scheduler -> preemption -> binpacking; scheduler -> forecasting"
FORECASTING_ALONE = "forecasting knows time, not GPUs"
SCHEDULER_LAYERS = "inside scheduler: from the command line down to planning"
PURE_CORE = "the pure core reads no clock, chance, file, log, process or client"
SIMULATION_APART = "simulation is its own world: it imports no adapter"


def sources() -> Iterator[Path]:
    """Every module of the four packages, in the order of their paths."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of the pyproject.toml in `folder`, checked against the packages beside it."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},  # a wrapped name would not be found
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    """A copy of the four packages and their contracts, to be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def test_every_contract_holds() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("forecasting/intruder.py", "import preemption", PACKAGE_ARROWS),
        ("binpacking/intruder.py", "import preemption", PACKAGE_ARROWS),
        ("preemption/intruder.py", "import scheduler.planning", PACKAGE_ARROWS),
        ("forecasting/intruder.py", "import binpacking", FORECASTING_ALONE),
        ("scheduler/planning/intruder.py", "import scheduler.simulation", SCHEDULER_LAYERS),
        ("scheduler/adapters/intruder.py", "import scheduler.cli", SCHEDULER_LAYERS),
        ("scheduler/unplaced.py", "", SCHEDULER_LAYERS),
        ("scheduler/planning/intruder.py", "import time", PURE_CORE),
        ("forecasting/intruder.py", "from datetime import datetime", PURE_CORE),
        ("binpacking/intruder.py", "import os.path", PURE_CORE),
        ("preemption/intruder.py", "def f():\n    import logging", PURE_CORE),
        ("scheduler/simulation/intruder.py", "import scheduler.adapters", SIMULATION_APART),
    ],
)
def test_a_breach_is_found_and_named(
    copied_tree: Path, module: str, line: str, contract: str
) -> None:
    (copied_tree / module).write_text(f"{line}\n")
    result = lint_imports(copied_tree)
    assert result.returncode != 0
    assert f"{contract} BROKEN" in result.stdout


def too_long(text: str) -> list[str]:
    """What exceeds its lines in one module: the module itself, then its functions by name.

    A function's lines are counted from `def` to its end, signature and docstring included.
    """
    lines = len(text.splitlines())
    module = [f"module: {lines} lines"] if lines > LINES_OF_A_MODULE else []
    lengths = (
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return module + [f"{name}: {n} lines" for name, n in lengths if n > LINES_OF_A_FUNCTION]


def test_no_module_and_no_function_is_too_long() -> None:
    found = {str(path.relative_to(ROOT)): too_long(path.read_text()) for path in sources()}
    assert {path: excess for path, excess in found.items() if excess} == {}


def test_too_long_counts_whole_functions_and_modules() -> None:
    body = "    pass\n"
    assert too_long("def f():\n" + body * 59) == []
    assert too_long("def f():\n" + body * 60) == ["f: 61 lines"]
    assert too_long("class C:\n  async def g(self):\n" + body * 60) == ["g: 61 lines"]
    assert too_long("x = 1\n" * 400) == []
    assert too_long("x = 1\n" * 401) == ["module: 401 lines"]


def draws_chance(text: str) -> list[int]:
    """The lines that name numpy.random, however numpy was imported."""
    tree = ast.parse(text)
    imports = (n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom))
    named = {
        node.lineno
        for node in imports
        for alias in node.names
        if f"{getattr(node, 'module', '')}.{alias.name}".lstrip(".").startswith("numpy.random")
    }
    used = {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "random"
        and isinstance(node.value, ast.Name)
        and node.value.id in {"np", "numpy"}
    }
    return sorted(named | used)


def test_only_the_simulation_draws_chance() -> None:
    simulation = ROOT / "scheduler" / "simulation"
    outside = [path for path in sources() if not path.is_relative_to(simulation)]
    found = {str(path.relative_to(ROOT)): draws_chance(path.read_text()) for path in outside}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("import numpy as np\nnp.random.default_rng(1)", [2]),
        ("import numpy.random", [1]),
        ("from numpy import random", [1]),
        ("from numpy.random import Generator", [1]),
        ("import random_walks\nx.random", []),
    ],
)
def test_draws_chance_knows_every_spelling(text: str, lines: list[int]) -> None:
    assert draws_chance(text) == lines
