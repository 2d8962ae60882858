"""Tables of the results page, in Markdown.  AP and shares of bands are in percent."""

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, stdev

from experiment.differences import ENOUGH, PROFILE
from experiment.errors import KINDS, REACHED
from experiment.evidence import ALL, FIXED, Difference, Evidence, figure
from experiment.rows import Row
from experiment.verdicts import SURE, beyond_noise, verdict

from seanet.papers import TABLES
from seanet.report.cells import number
from seanet.report.cells import signed as with_sign

NAMES = {
    "segm/AP": "mask AP",
    "segm/AP50": "mask AP50",
    "segm/AP75": "mask AP75",
    "bbox/AP": "box AP",
    "bbox/AP50": "box AP50",
    "bbox/AP75": "box AP75",
    "boundary/AP": "boundary AP",
    "boundary/AP75": "boundary AP75",
    "TA@R/1px": "TA@R, 1 px",
    "TA@R/3px": "TA@R, 3 px",
    "TA@R/8px": "TA@R, 8 px",
    "TA/1px": "TA, 1 px",
    "TA/3px": "TA, 3 px",
    "TA/8px": "TA, 8 px",
    "band_iou/3px": "band IoU, 3 px",
    "boundary_f/1px": "boundary F, 1 px",
    "boundary_f/3px": "boundary F, 3 px",
    "found": "objects found",
}
CHANGES = ("segm/AP", "bbox/AP", "boundary/AP", "TA@R/3px")
SHORT = ("segm/AP", "segm/AP75", "bbox/AP", "boundary/AP", "TA@R/3px")
GLANCE = ("segm/AP", "bbox/AP", "boundary/AP", "TA@R/1px", "TA@R/8px")
BY_FAILURE = ("segm/AP", "segm/AP75", "bbox/AP", "boundary/AP", "TA@R/1px", "TA@R/3px", "TA@R/8px")

Compared = tuple[tuple[str, ...], Evidence, tuple[str, str], str]
"""What is said of a comparison, the evidence, both rows, and the kind of failure whose images are looked at."""

IN_TRUE_BOXES = {
    "mask_iou": "mask IoU",
    **{key: NAMES[key] for key in ("TA/1px", "TA/3px", "TA/8px")},
    **{key: NAMES[key] for key in ("boundary_f/1px", "boundary_f/3px", "band_iou/3px")},
    "offset": "offset, px",
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first ``left`` columns are words, and verdicts too."""
    rule = ["---" if i < left or name.startswith("verdict") else "---:" for i, name in enumerate(head)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def percent(value: float) -> str:
    return number(value, "share")


def level(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds; of one seed its value, marked."""
    if not values:
        return "-"
    return f"{percent(fmean(values))} ± {percent(stdev(values))}" if len(values) > 1 else f"{percent(values[0])} ¹"


def pixels(values: Sequence[float]) -> str:
    """As ``level``, signed and in pixels."""
    mean = shifted(fmean(values))
    return f"{mean} ± {stdev(values):.2f}" if len(values) > 1 else f"{mean} ¹"


def shifted(offset: float) -> str:
    return f"{offset:+.2f}".replace("-", "−")


def change(found: Difference | None, sure: bool = False) -> str:
    """A difference and its interval: [of images and seeds] or (of images alone); bold where it is sure."""
    if found is None or not math.isfinite(found.by):
        return "-"
    low, high = (signed(end) for end in found.interval)
    text = f"{signed(found.by)} [{low}, {high}]" if found.both else f"{signed(found.by)} ({low}, {high})"
    return f"**{text}**" if sure else text


def signed(value: float) -> str:
    """In percent points, with a true minus; what rounds to nothing has no sign, and nan is "-"."""
    return with_sign(value, "share") if math.isfinite(value) else "-"


def main_table(evidence: Evidence, row: str, against: str) -> str:
    """Every figure of two rows, their difference, and the paper's with ResNet-101."""
    head = ["figure", f"`{against}`", f"`{row}`", "difference, 95 %", "each seed", "verdict", "paper, R101"]
    lines, seeds = [], evidence.shared(row, against)
    for key, name in NAMES.items():
        found, said = evidence.difference(row, against, key), verdict(evidence, row, against, key)
        each = ", ".join(map(signed, found.each)) if found else "-"
        levels = [level(evidence.values(r, key, seeds=seeds)) for r in (against, row)]
        lines.append([name, *levels, change(found, said in SURE), each, said, of_paper(2, row, against, key)])
    return markdown(head, lines)


def profile_table(evidence: Evidence, row: str, against: str) -> str:
    """Differences of mask AP at each IoU."""
    said = {key: verdict(evidence, row, against, key) for key in PROFILE}
    lines = [[f".{key[-2:]}", change(evidence.difference(row, against, key), said[key] in SURE)] for key in PROFILE]
    return markdown(["IoU", "mask AP: difference, 95 %"], lines)


def glance_table(head: Sequence[str], lines: Iterable[Compared]) -> str:
    """Differences in a few figures behind the words of each line, which ``head`` is of."""
    rows = []
    for words, evidence, pair, kind in lines:
        said = {key: verdict(evidence, *pair, key, kind) in SURE for key in GLANCE}
        rows.append([*words, *(change(evidence.difference(*pair, key, kind), said[key]) for key in GLANCE)])
    return markdown([*head, *(NAMES[key] for key in GLANCE)], rows, left=len(head))


def failure_table(evidence: Evidence, row: str, against: str, kinds: Sequence[str]) -> str:
    """Levels and differences by kind of failure."""
    lines, seeds = [], evidence.shared(row, against)
    for kind in (ALL, *kinds):
        for key in BY_FAILURE:
            found = evidence.difference(row, against, key, kind)
            levels = [level(evidence.values(r, key, kind, seeds)) for r in (against, row)]
            said = verdict(evidence, row, against, key, kind)
            first = f"**{kind}**" if key == BY_FAILURE[0] else ""
            lines.append([first, NAMES[key], *levels, change(found, said in SURE), said])
    head = ["images", "figure", f"`{against}`", f"`{row}`", "difference, 95 %", "verdict"]
    return markdown(head, lines, left=2)


def errors_table(evidence: Evidence, rows: Iterable[str]) -> str:
    """What the best-ranked boxes of several rows are: means over seeds."""
    reached = [f"reached at .{name}" for name in REACHED]
    head = ["row", "seeds", *KINDS, *reached, "score of true", "score of false"]
    known = [(row, list(evidence.errors[row].values())) for row in rows if row in evidence.errors]
    return markdown(head, [_errors(row, runs) for row, runs in known])


def fixed_table(evidence: Evidence, rows: Iterable[str], against: str) -> str:
    """The mask heads of several rows in the true boxes, bold what is beyond noise from another's; then the most possible."""
    known = [row for row in rows if evidence.values(row, "mask_iou", FIXED)]
    head = ["row", "seeds", *IN_TRUE_BOXES.values()]
    return markdown(head, [*(_fixed(evidence, row, against) for row in known), *_ceilings(evidence, known)])


def levels_table(evidence: Evidence, rows: Iterable[Row]) -> str:
    """Means over seeds of several rows."""
    head = ["row", "what it is", "seeds", *(NAMES[key] for key in SHORT)]
    return markdown(head, [_levels(evidence, row) for row in rows if row.name in evidence.records], left=2)


def changes_table(evidence: Evidence, pairs: Iterable[tuple[str, str]], table: int | None = None) -> str:
    """Differences of several rows to those they are compared with, beside the paper's in that table."""
    head = ["row", "against", "seeds", *(NAMES[key] for key in CHANGES), "verdict: mask AP"]
    lines = [_changes(evidence, pair, table) for pair in pairs if pair in evidence.pairings]
    return markdown([*head, f"paper, table {table}"] if table else head, lines, left=2)


def of_paper(table: int, row: str, against: str, key: str) -> str:
    """The paper's difference of two rows in one of its tables; "-" where it prints none."""
    printed = {_plain(r.recipe): r.figures for r in TABLES[table].rows if r.recipe}
    columns = TABLES[table].columns
    if key not in columns or not {row, against} <= printed.keys():
        return "-"
    at = columns.index(key)
    return signed((printed[row][at] - printed[against][at]) / 100)


def _levels(evidence: Evidence, row: Row) -> list[str]:
    seeds = len(evidence.records[row.name])
    return [f"`{row.name}`", row.note, str(seeds), *(level(evidence.values(row.name, key)) for key in SHORT)]


def _errors(row: str, runs: Sequence[dict]) -> list[str]:
    shares = [percent(_mean(run["shares"][kind] for run in runs)) for kind in KINDS]
    reached = [percent(_mean(run["reached"][name] for run in runs)) for name in REACHED]
    scores = [_mean(run["score"][name] for run in runs) for name in ("true", "false")]
    return [f"`{row}`", str(len(runs)), *shares, *reached, *(f"{s:.2f}" if math.isfinite(s) else "-" for s in scores)]


def _mean(values: Iterable[float | None]) -> float:
    """Of those that are there; nan if none is."""
    there = [value for value in values if value is not None]
    return fmean(there) if there else math.nan


def _fixed(evidence: Evidence, row: str, against: str) -> list[str]:
    cells = []
    for key in IN_TRUE_BOXES:
        values = evidence.values(row, key, FIXED)
        text = pixels(values) if key == "offset" else level(values)
        cells.append(f"**{text}**" if beyond_noise(evidence, row, against, key, FIXED) else text)
    return [f"`{row}`", str(len(evidence.values(row, "mask_iou", FIXED))), *cells]


def _ceilings(evidence: Evidence, rows: Iterable[str]) -> Iterator[list[str]]:
    """One for each number of cells that the rows' masks have."""
    runs = [run["fixed"]["ceiling"] for row in rows for run in evidence.records[row].values() if "fixed" in run]
    for cells, most in {run["cells"]: run for run in runs}.items():
        shares = [percent(figure(most, key)) for key in IN_TRUE_BOXES if key != "offset"]
        yield [f"most with {cells} x {cells} cells", "", *shares, shifted(figure(most, "offset"))]


def _changes(evidence: Evidence, pair: tuple[str, str], table: int | None) -> list[str]:
    said = {key: verdict(evidence, *pair, key) for key in CHANGES}
    cells = [change(evidence.difference(*pair, key), said[key] in SURE) for key in CHANGES]
    seeds = len(evidence.pairings[pair].seeds)
    few = f"{seeds} ¹" if seeds < ENOUGH else str(seeds)
    paper = [of_paper(table, *pair, "segm/AP")] if table else []
    return [f"`{pair[0]}`", f"`{pair[1]}`", few, *cells, said["segm/AP"], *paper]


def _plain(recipe: str) -> str:
    """A recipe's name less its backbone: the name of its row."""
    return "_".join(word for word in recipe.split("_") if word not in ("r50", "r101", "x101"))
