"""What all tests share: how hypothesis searches, and where the shared data lies."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.controlplane")  # what its helpers assert shows values too
pytest_plugins = ("tests.controlplane.fixtures",)  # `plane` and `namespace`, for tests anywhere

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# A job in the background of a shell ignores SIGINT, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# derandomize: a commit that is green here is green everywhere. The search for new
# counterexamples is the thorough profile's: HYPOTHESIS_PROFILE=thorough make test
settings.register_profile("default", deadline=None, max_examples=50, derandomize=True)
settings.register_profile(
    "thorough", deadline=None, max_examples=2000, derandomize=False, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded data beside the checkout; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs recorded data, and there is no {SHARED_DATA}")
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that ask for the data, so that `-m "not data"` leaves them out."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)
