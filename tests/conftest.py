"""Every annotation of seanet is checked while the tests run: shapes by jaxtyping, the rest by beartype."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# The same examples each time: what fails here fails for everybody.  Campaigns draw others (benchmarks/faults).
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

assert not any(name.partition(".")[0] == "seanet" for name in sys.modules), "seanet was imported before the hook"
install_import_hook("seanet", "checking.checked")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def one_thread():
    """Tests share a small machine; torch is left alone where no test has imported it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """A small part of COCO, where this machine has one."""
    path = Path(os.environ.get("SEANET_COCO_MINI", ROOT.parent / "shared" / "data" / "coco_mini"))
    if not (path / "annotations").is_dir():
        pytest.skip("no part of COCO here; SEANET_COCO_MINI names one")
    return path
