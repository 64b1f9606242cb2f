"""The architecture, checked: who may import whom, and how long a function or a module may be."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("architecture")  # one spoilt copy for all

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


def test_every_contract_holds() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


BREACHES = (
    ("forecasting", "import preemption", PACKAGE_ARROWS),
    ("binpacking", "import preemption", PACKAGE_ARROWS),
    ("preemption", "import scheduler.planning", PACKAGE_ARROWS),
    ("forecasting", "import binpacking", FORECASTING_ALONE),
    ("scheduler/planning", "import scheduler.simulation", SCHEDULER_LAYERS),
    ("scheduler/adapters", "import scheduler.cli", SCHEDULER_LAYERS),
    ("scheduler", "", SCHEDULER_LAYERS),
    ("scheduler/planning", "import time", PURE_CORE),
    ("forecasting", "from datetime import datetime", PURE_CORE),
    ("binpacking", "import os.path", PURE_CORE),
    ("preemption", "def f():\n    import logging", PURE_CORE),
    ("scheduler/simulation", "import scheduler.adapters", SIMULATION_APART),
)
"""A folder, what a new module in it says, and the contract that this breaks."""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Contract -> what is said of it in a copy of the packages where every breach is a module."""
    copy = tmp_path_factory.mktemp("spoilt")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for number, (folder, line, _) in enumerate(BREACHES):
        (copy / folder / f"intruder{number}.py").write_text(f"{line}\n")
    result = lint_imports(copy)
    assert result.returncode != 0
    parts = re.split(r"^(.+)\n-+$", result.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("number", range(len(BREACHES)))
def test_a_breach_is_found_and_named(complaints: dict[str, str], number: int) -> None:
    folder, _, contract = BREACHES[number]
    module = f"{folder.replace('/', '.')}.intruder{number}"
    assert module in complaints[contract].split()


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
