"""The weights that rows start from where these are the last ones of another ablation.  Free of torch.

They are copied beside the runs: a record then speaks of what its run saw, whatever becomes of the other ablation.
"""

from collections.abc import Iterable

from experiment.records import Cell
from experiment.runner import Experiment, Runs, trained

from seanet.errors import UserError
from seanet.headers import LAST
from seanet.report.files import write_whole


def keep(experiment: Experiment, source: Runs, cells: Iterable[Cell]) -> None:
    """Copy the weights of each training of ``cells`` out of ``source`` that is not copied yet.

    UserError where the same row was not trained there to its end with the same seed.
    """
    for cell in dict.fromkeys(map(trained, cells)):
        start = experiment.start(cell)
        if start is None or start.exists():
            continue
        if not source.is_trained(cell):
            name = source.preset.name
            raise UserError(
                f"{source.run(cell)} holds no {LAST} after {source.preset.steps} steps to start {cell.name} from: run"
                f" 'python benchmarks/ablation.py --preset {name} --rows {cell.row.name} --seeds {cell.seed}', or name"
                " the folder in which that ran (--init-from)",
                file=source.run(cell),
            )
        write_whole(start, (source.run(cell) / LAST).read_bytes())
