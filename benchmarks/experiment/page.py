"""docs/results.md: what the experiment says, written from its records.

Figures and verdicts are put in by code; what a person wrote here says how to read them, never how they came out.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from experiment import charts, wording
from experiment.evidence import ALL, FIXED, RECORDS, Evidence, read_evidence
from experiment.pictures import EXAMPLES, SHEETS
from experiment.rows import GROUPS, ROWS
from experiment.tables import (
    NAMES,
    Compared,
    change,
    changes_table,
    errors_table,
    failure_table,
    fixed_table,
    glance_table,
    level,
    levels_table,
    main_table,
    markdown,
    of_paper,
    profile_table,
    signed,
)
from experiment.verdicts import BETTER, SURE, WORSE, least, verdict

from seanet.report.files import write_whole

MAIN = ("seanet", "mask_rcnn")
LONGER = ("cpu_long", "photographs")  # presets of which the short answer speaks too
HEADLINES = ("segm/AP", "segm/AP75", "bbox/AP", "boundary/AP", "TA@R/1px", "TA@R/3px", "TA@R/8px")
POOLED = ("seanet_fused", "mask_rcnn_fused")
EQUAL = (
    ("seanet_read_nms_50", "mask_rcnn"),
    ("seanet", "mask_rcnn_read_nms_60"),
    POOLED,
    ("seanet", "mask_rcnn_fused"),
    ("seanet_hard", "mask_rcnn_hard"),
)
"""The main comparison again: what the two rows do differently made equal, given to the baseline alone, or changed in both."""
JUDGED = (
    *("mask_rcnn", "seanet", "seanet_box", "seanet_edge", "seanet_class_4"),
    *("seanet_read_nms_50", "mask_rcnn_read_nms_60"),
)
"""Rows whose boxes are looked at one by one."""
UNSUPERVISED = ("seanet_box_attention", "seanet")
OWN = tuple((row.name, row.against) for row in ROWS.values() if row.against)
PAIRS = (*OWN, *EQUAL, UNSUPERVISED)
MASK_HEADS = [row.name for row in ROWS.values() if not row.of and not any(s.startswith("box.") for s in row.settings)]
"""Trained rows that differ in more than a setting of the box head."""
CHARTS = {"profile.svg": "By IoU", "failures.svg": "By failure and width of the band", "rows.svg": "Every row"}
CAPTIONS = {
    "gains": "Largest gains at the boundary",
    "losses": "Largest losses at the boundary",
    "sample": "Drawn at random, chosen by nobody",
}


def write_page(evidence: Evidence, page: Path, records: Path = RECORDS) -> None:
    """The page and its charts; pictures that lie beside it are shown."""
    folder = page.parent / page.stem
    drawn: dict[str, Callable[[], str]] = {
        "profile.svg": lambda: charts.profile(evidence, *MAIN),
        "failures.svg": lambda: charts.by_band(evidence, *MAIN, kinds(evidence)),
        "rows.svg": lambda: charts.all_pairs(evidence, PAIRS),
    }
    for name in drawn if MAIN in evidence.pairings else ():
        write_whole(folder / name, drawn[name]().encode())
    write_whole(page, ("\n\n".join(sections(evidence, folder, records)) + "\n").encode())


def sections(evidence: Evidence, folder: Path, records: Path) -> Iterator[str]:
    facts = any_record(evidence)
    sizes = {**facts["data"]["images"], "size": facts["data"]["size"], "steps": facts["steps"], "batch": facts["batch"]}
    others = dict(_others(evidence, records))
    yield wording.QUESTION
    yield "## The short answer\n\n" + "\n".join(answer(evidence, others))
    yield wording.DATA.format(**sizes)
    yield from _picture(folder, EXAMPLES, "Images of each failure with the outlines of their objects")
    yield "## How it was run\n\n" + how(evidence)
    yield "## SEANet beside Mask R-CNN\n\n" + main_table(evidence, *MAIN)
    yield from _picture(folder, "profile.svg", CHARTS["profile.svg"])
    yield folded("By IoU, in figures", profile_table(evidence, *MAIN))
    yield "### By failure\n\n" + wording.BY_FAILURE
    yield from _picture(folder, "failures.svg", CHARTS["failures.svg"])
    yield glance_table(["images"], (((f"`{kind}`",), evidence, MAIN, kind) for kind in (ALL, *kinds(evidence))))
    yield folded("All figures by failure", failure_table(evidence, *MAIN, kinds(evidence)))
    yield from boxes_and_masks(evidence)
    yield from rows_sections(evidence)
    yield from _picture(folder, "rows.svg", CHARTS["rows.svg"])
    yield from pictures(folder)
    for name, found in others.items():
        yield from other(found, wording.OTHERS[name])
    yield wording.SURE_HOW.format(resamples=evidence.facts.get("resamples", "no"))
    yield wording.LIMITS.format(**sizes)
    yield wording.REPEAT.format(preset=evidence.preset)


def _others(evidence: Evidence, records: Path) -> Iterator[tuple[str, Evidence]]:
    """Other presets that have records."""
    for name in wording.OTHERS:
        if name != evidence.preset and (records / name).is_dir():
            found = read_evidence(records / name)
            same = any_record(found)["data"] == any_record(evidence)["data"]
            yield name, replace(found, lender=evidence) if same else found


def answer(evidence: Evidence, others: Mapping[str, Evidence]) -> Iterator[str]:
    """What may be said of the main rows, worded by the verdicts, and of the same rows in other presets."""
    if MAIN not in evidence.pairings:
        yield "The difference of the main rows is not measured yet."
        return
    pairing = evidence.pairings[MAIN]
    yield f"SEANet less Mask R-CNN, {len(pairing.seeds)} seed{'s' * (len(pairing.seeds) > 1)}, in percent points:\n"
    for key in HEADLINES:
        yield f"- {NAMES[key]}: {_said(evidence, key)}"
    yield "\n" + wording.KEY
    yield "\n" + _expected(evidence)
    table = glance_table(["after", "pooling from", "mask AP, levels"], _otherwise(evidence, others))
    yield f"\n{wording.OTHERWISE}\n\n{table}"
    yield "\n" + _other_rows(evidence)


def _otherwise(evidence: Evidence, others: Mapping[str, Evidence]) -> Iterator[Compared]:
    """The main comparison with fewer and more steps, with equal pooling, and on photographs."""
    for found in (evidence, *(others[name] for name in LONGER if name in others)):
        facts = any_record(found)
        data = "" if facts["data"] == any_record(evidence)["data"] else " on photographs"
        for pair, pooling in ((MAIN, "one level"), (POOLED, "all levels")):
            if pair in found.pairings:
                levels = " to ".join(level(found.values(row, "segm/AP")) for row in reversed(pair))
                yield (f"{facts['steps']} steps{data}", pooling, levels), found, pair, ALL


def _said(evidence: Evidence, key: str) -> str:
    found, word = evidence.difference(*MAIN, key), verdict(evidence, *MAIN, key)
    assert found is not None  # of a measured pair
    seeds = evidence.shared(*MAIN)
    levels = " to ".join(level(evidence.values(row, key, seeds=seeds)) for row in reversed(MAIN))
    printed = of_paper(2, *MAIN, key)
    beside = f"; the paper, with ResNet-101: {printed}" if printed != "-" else ""
    return f"**{word}**, {change(found)}; {levels}{beside}"


def _expected(evidence: Evidence) -> str:
    """Whether the gain is where the paper's is."""
    by = {key: d.by for key, d in evidence.pairings[MAIN].groups[ALL].items()}
    strict = "larger" if by["segm/AP75"] > by["segm/AP50"] else "not larger"
    narrow = "larger" if by["TA@R/1px"] > by["TA@R/8px"] else "not larger"
    printed, wide = (of_paper(2, *MAIN, key) for key in ("segm/AP75", "segm/AP50"))
    shown = {key: signed(by[key]) for key in ("segm/AP75", "segm/AP50", "TA@R/1px", "TA@R/8px")}
    return wrapped(
        "If boundaries are what gains, gains grow with the IoU that is asked for and shrink as bands widen. "
        f"The paper's own is {printed} at AP75 and {wide} at AP50. "
        f"Here the difference is {strict} at AP75 ({shown['segm/AP75']}) than at AP50 ({shown['segm/AP50']}), "
        f"and {narrow} in a band of 1 px ({shown['TA@R/1px']}) than in one of 8 px ({shown['TA@R/8px']}); "
        "the gaps between these have no interval of their own."
    )


def _other_rows(evidence: Evidence) -> str:
    """How many of the other rows differ from what they are compared with."""
    pairs = [pair for pair in OWN if pair != MAIN and pair in evidence.pairings]
    said = {pair: verdict(evidence, *pair, "segm/AP") for pair in pairs}
    names = {word: ", ".join(f"`{row}`" for (row, _), s in said.items() if s == word) or "none" for word in SURE}
    return wrapped(
        f"Of the {len(pairs)} other rows measured, each against its own row, these are better in mask AP: {names[BETTER]}; "
        f"and these worse: {names[WORSE]}. Of the rest no difference is seen beyond noise."
    )


def how(evidence: Evidence) -> str:
    """Machine, hours and noise, from the records."""
    trained = {row: list(own.values()) for row, own in evidence.records.items() if evidence.source(row) == row}
    runs = [record for own in trained.values() for record in own]
    hours = sum(sum(r["minutes"].values()) for own in evidence.records.values() for r in own.values()) / 60
    machines = sorted({f"{r['machine']['device']}, {r['machine']['threads']} thread(s) a run" for r in runs})
    versions = sorted({f"seanet {r['machine']['seanet']}, torch {r['machine']['torch']}" for r in runs})
    first = runs[0]
    intro = wrapped(
        f"{len(runs)} trainings of {len(trained)} rows, {first['steps']} steps of {first['batch']} images each; "
        f"{hours:.1f} hours of runs in all, of which several at a time may share the machine. "
        f"{'; '.join(machines)}; {'; '.join(versions)}. "
        "The last weights of each run are measured once; none is chosen by the images that measure it."
    )
    minutes = [
        [f"`{row}`", f"`{own[0]['recipe']}`", str(len(own)), f"{fmean(r['minutes']['train'] for r in own):.0f}"]
        for row, own in trained.items()
    ]
    noise = [[NAMES[key], *_noise(evidence, key)] for key in HEADLINES]
    head = ["figure", "sd over seeds", "degrees of freedom", "least difference of two single runs"]
    lengths = folded("Minutes by row", markdown(["row", "recipe", "seeds", "minutes of a training"], minutes, left=2))
    return f"{intro}\n\n{markdown(head, noise)}\n\n{lengths}"


def _noise(evidence: Evidence, key: str) -> list[str]:
    (deviation, freedom), enough = evidence.noise(key), least(evidence, key, 1)
    return [f"{100 * deviation:.2f}", str(freedom), f"{100 * enough:.1f}"] if enough is not None else ["-", "0", "-"]


def boxes_and_masks(evidence: Evidence) -> Iterator[str]:
    """What becomes of the boxes, and what the mask heads do in true ones, where that is measured."""
    if evidence.errors:
        yield f"### Where the boxes lose or gain\n\n{wording.BOXES}\n\n{errors_table(evidence, JUDGED)}"
    if any(evidence.values(row, "mask_iou", FIXED) for row in MASK_HEADS):
        yield f"### The mask head alone\n\n{wording.MASKS}\n\n{fixed_table(evidence, MASK_HEADS, MAIN[1])}"


def rows_sections(evidence: Evidence) -> Iterator[str]:
    """A section for each group of rows of which something is measured."""
    groups: list[tuple[str, str, Sequence[tuple[str, str]], int | None]] = [
        ("### What each part adds", "The paper's table 2.", _own("table2"), 2),
        (
            "### Parts of the mask head alone",
            "Rows that the paper does not have.",
            _own("ingredients"),
            None,
        ),
        (
            "### Designs of edge attention",
            "The paper's table 4 (R50).",
            [("seanet_concat", "seanet"), UNSUPERVISED],
            4,
        ),
        ("### Pooling", wording.POOLING, [*_own("pooling"), POOLED], None),
        ("### What the paper leaves open", wording.SWITCHED, _own("switches"), None),
        ("### The same weights read otherwise", wording.READ, _own("readings"), None),
    ]
    for title, text, pairs, table in groups:
        if any(pair in evidence.pairings for pair in pairs):
            yield f"{title}\n\n{text}\n\n{_levels(evidence, pairs)}\n\n{changes_table(evidence, pairs, table)}"
    if any(pair in evidence.pairings for pair in EQUAL):
        yield f"### The main comparison, made equal\n\n{wording.EQUALLED}\n\n{changes_table(evidence, EQUAL)}"


def _levels(evidence: Evidence, pairs: Sequence[tuple[str, str]]) -> str:
    """Of every row in ``pairs``, once."""
    rows = dict.fromkeys(name for row, against in pairs for name in (against, row))
    return levels_table(evidence, [ROWS[name] for name in rows])


def _own(name: str) -> list[tuple[str, str]]:
    return [(row.name, row.against) for row in GROUPS[name] if row.against]


def pictures(folder: Path) -> Iterator[str]:
    if not all((folder / file).exists() for file in SHEETS.values()):
        return
    yield wording.PICTURES
    for name, file in SHEETS.items():
        yield f"### {CAPTIONS[name]}"
        yield from _picture(folder, file, CAPTIONS[name])


def other(evidence: Evidence, text: str) -> Iterator[str]:
    """The main rows of another preset, and what else is measured there."""
    facts = any_record(evidence)
    images = facts["data"]["images"]
    size = f"{images['train']} images to train on, {images['val']} to measure by, {facts['steps']} steps of {facts['batch']}."
    yield f"{text}\n\n{size}\n\n{main_table(evidence, *MAIN)}"
    if evidence.errors:
        yield f"What the best-ranked boxes are, as above:\n\n{errors_table(evidence, MAIN[::-1])}"
    pairs = [pair for pair in PAIRS if pair != MAIN and pair in evidence.pairings]
    if pairs:
        yield f"Other rows:\n\n{_levels(evidence, pairs)}\n\n{changes_table(evidence, pairs)}"


def any_record(evidence: Evidence) -> dict:
    return next(iter(next(iter(evidence.records.values())).values()))


def kinds(evidence: Evidence) -> list[str]:
    """Kinds of failure, in the order of the data."""
    if MAIN in evidence.pairings:
        return [kind for kind in evidence.pairings[MAIN].groups if kind != ALL]
    return list(any_record(evidence).get("by_failure", {}))


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def wrapped(text: str) -> str:
    return textwrap.fill(text, 128, break_long_words=False, break_on_hyphens=False)


def _picture(folder: Path, file: str, caption: str) -> Iterator[str]:
    if (folder / file).exists():
        yield f"![{caption}]({folder.name}/{file})"
