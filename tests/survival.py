"""What the tests of runs that survive share.  "The same" means bit for bit what the undisturbed run leaves."""

import os
import signal

from seanet import checkpoint
from seanet.data.coco import find_split, read_coco
from seanet.data.synth import synthesise
from test_train import batches, config, go, losses, rows, same, weights

SCORE = {"segm/AP": 0.5}


def undisturbed(tmp_path_factory):
    """A run of three passes of three steps."""
    out = tmp_path_factory.mktemp("whole") / "run"
    go(config(), out)
    return out


def drawn(tmp_path_factory):
    """Six images to train on and one to evaluate on."""
    out = synthesise(tmp_path_factory.mktemp("scenes") / "data", 6, 64, val=1)
    return [read_coco(*find_split(out, split)) for split in ("train", "val")]


def cut(out, step):
    """A run that a signal ended after a step."""

    def interrupting(train, start):
        for number, batch in enumerate(batches(train, start), start):
            if number == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    assert go(config(), out, batches=interrupting).exit_code == 143
    return out


def equal(a, b):
    return losses(a) == losses(b) and all(
        same(weights(a, name), weights(b, name)) for name in (checkpoint.LAST, checkpoint.BEST)
    )


def losses_of(out):
    """All but the time that steps took."""
    return [row | {"seconds": ""} for row in rows(out)]
