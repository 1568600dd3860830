"""
What all tests share.
"""

import os

import pytest
from hypothesis import settings

# The gate must say the same of the same commit; elsewhere each run looks at other examples.
settings.register_profile("gate", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("roam", deadline=None, print_blob=True)
settings.load_profile("gate" if os.environ.get("CI") else "roam")


@pytest.fixture(scope="session")
def faulty_root(tmp_path_factory):
    """
    The root of `faulty_lake.py`, made once; only to be read.
    """
    from faulty_lake import record  # noqa: PLC0415

    return record(tmp_path_factory.mktemp("faulty") / "lake")


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory):
    """
    The root of `demo_lake.py`, made once; only to be read.
    """
    from demo_lake import record  # noqa: PLC0415

    return record(tmp_path_factory.mktemp("demo") / "lake")


@pytest.fixture(scope="session")
def faulty(faulty_root):
    """
    The lake of it.
    """
    from recorder.analysis import Lake  # noqa: PLC0415

    return Lake(faulty_root)
