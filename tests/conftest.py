"""How tests are spread over processes: by file, but the black-box tests of the server together, for they share theirs."""

from pathlib import Path

import pytest

DROPIN = Path(__file__).parent / "dropin"


# First, for xdist looks at the marks in this hook, too.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Name the group of each test for `--dist loadgroup`."""
    for item in items:
        group = "dropin" if item.path.is_relative_to(DROPIN) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
