"""What ``evaluation.analysis`` found, as lines of text and as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from seanet import __version__
from seanet.evaluation.oracle import ORACLES
from seanet.report.charts import STROKES, bar_chart, line_chart

KINDS = {"bbox": "Box", "segm": "Mask", "boundary": "Boundary"}
PREDICTED = {"box_iou": "predicted box IoU", "mask_iou": "predicted mask IoU", "score": "score"}
TRUE = {"box_iou": "true IoU of the box", "mask_iou": "true IoU of the mask", "score": "true IoU of the mask"}
SIZES = ("all", "small", "medium", "large")
LOSS = {"mean": "mean", "median": "median", "over 1%": "> 1%", "over 5%": "> 5%", "over 10%": "> 10%"}
GAIN, LOST = STROKES[2], STROKES[6]
WIDTH, LEFT, RIGHT, TOP, ROW = 500, 204, 102, 34, 24  # of a chart of oracles


def text(found: Mapping[str, Any]) -> str:
    """For the terminal."""
    parts = ["\n".join(_oracles(found["oracles"])), "\n".join(_clipping(found["clipping"]))]
    parts.append("\n".join(_trust(found["calibration"])))
    if found["fixed_boxes"]:
        parts.append(fixed_text(found["fixed_boxes"]))
    parts.append(
        "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.items() if isinstance(value, int))
    )
    return "\n\n".join(part for part in [*parts, "\n".join(found["left_out"])] if part)


def _oracles(found: Mapping[str, Any]) -> list[str]:
    lines = ["AP".ljust(30) + "".join(f"{name.lower():>16}" for name in KINDS.values()) + f"{'changed':>10}"]
    for name, oracle in found.items():
        values = [f"{oracle['AP'][kind]:8.3f}" for kind in KINDS]
        gains = [f"{oracle['gain'][kind]:+8.3f}" if "gain" in oracle else " " * 8 for kind in KINDS]
        changed = f"{oracle['changed']:10}" if "changed" in oracle else ""
        row = "".join(value + gain for value, gain in zip(values, gains, strict=True))
        lines.append((ORACLES.get(name, "as it is").ljust(30) + row + changed).rstrip())
    return lines


def _clipping(found: Mapping[str, Any]) -> list[str]:
    lines = ["cut off by the box".ljust(20) + "".join(f"{name:>9}" for name in ("objects", "found", *LOSS.values()))]
    for size in SIZES:
        row = found[size]
        counts = f"{row['objects']:9}{row['found']:9}"
        lines.append(size.ljust(20) + counts + "".join(_share(row[key]) for key in LOSS))
    return [*lines, "found: by a box of the class, at an IoU of at least .5; shares are of these objects"]


def _trust(found: Mapping[str, Any]) -> list[str]:
    known = {name: found[name] for name in PREDICTED if found[name]}
    if not known:
        return []
    lines = [
        "prediction, against".ljust(42) + "".join(f"{name:>12}" for name in ("detections", "rank corr.", "bias", "ECE"))
    ]
    for name, part in known.items():
        numbers = "".join(_number(part[key]) for key in ("spearman", "bias", "ece"))
        lines.append(f"{PREDICTED[name]}, {TRUE[name]}".ljust(42) + f"{part['detections']:12}" + numbers)
        if located := part["located"]:
            numbers = "".join(_number(located[key]) for key in ("spearman", "bias", "ece"))
            lines.append("  where that is at least .5".ljust(42) + f"{located['detections']:12}" + numbers)
    lines.append("bias: predicted less true; ECE: mean distance of the two, over ten bins of the prediction, below")
    for name, part in known.items():
        if part["bins"]:
            lines += ["", f"{PREDICTED[name]:<20}{'count':>10}{'predicted':>12}{'true':>12}"]
            lines += [
                f"{_range(b):<20}{b['count']:10}{_number(b['predicted'])}{_number(b['true'])}"
                for b in part["bins"]
                if b["count"]
            ]
    return lines


def fixed_text(found: Mapping[str, Any]) -> str:
    """Of ``evaluation.fixed.fixed_boxes``."""
    bands, whole = found["bands"], found["bands"]["all"]
    names = list(whole["TA"])
    lines = [
        f"mask head alone, in the true boxes of {found['objects']} objects: mask IoU {found['mask_iou']:.3f}, "
        + ", ".join(f"{size} {_plain(bands[size]['iou'])}" for size in SIZES[1:])
    ]
    lines.append("within".ljust(20) + "".join(f"{name:>9}" for name in names))
    for key, title in {"TA": "band accuracy", "band_iou": "band IoU", "boundary_f": "boundary F"}.items():
        lines.append(title.ljust(20) + "".join(f"{_plain(whole[key][name]):>9}" for name in names))
    lines.append(
        f"offset {_plain(whole['offset'])} px (+ grows), Hausdorff distance (95 %) {_plain(whole['hausdorff95'])} px"
    )
    most, cells = found["ceiling"]["bands"], found["ceiling"]["cells"]
    sizes = ", ".join(f"{size} {_plain(most[size]['iou'])}" for size in SIZES[1:])
    lines += [f"the most that {cells} x {cells} cells can show: mask IoU {found['ceiling']['mask_iou']:.3f}, {sizes}"]
    lines.append("band accuracy".ljust(20) + "".join(f"{_plain(most['all']['TA'][name]):>9}" for name in names))
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{100 * value:8.1f}%"


def _number(value: float | None) -> str:
    return f"{_plain(value):>12}"


def _plain(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _range(bin: Mapping[str, float]) -> str:
    return f"{bin['from']:.1f} - {bin['to']:.1f}"


def write_analysis(path: Path | str, found: Mapping[str, Any], title: str, source: str) -> Path:
    """The page: figures as tiles, oracles as bars, reliability diagrams, and what boxes cut off; ``source`` of what."""
    from seanet.report.page import write_page

    charts = [oracle_chart(found["oracles"], kind) for kind in KINDS]
    charts.append(loss_chart(found["clipping"]["histogram"]))
    for name in PREDICTED:
        if found["calibration"][name]:
            charts += trust_charts(name, found["calibration"][name])
    date = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    made = f"{source}; made {date} by seanet {__version__}."
    return write_page(path, title, tiles(found), notes=[*NOTES, *found["left_out"], made], charts=charts)


NOTES = (
    "Each bar shows the AP, from 0 to 1, that the same detections with the same scores would have if one part of them were "
    "right. A detection's object is the one that its box overlaps most, at an IoU of at least .5, of its own class unless "
    "classes are put right. Masks in mended boxes and of mended classes are predicted again. What is missing when all "
    "is true are objects that no box found and detections of nothing.",
    "Several detections of one object in different classes become duplicates when their classes are put right, which "
    "can cost more than the classes gain: see the last bar.",
    "Predicted IoUs and scores are held against the best overlap with an object of the same class, 0 where there is none: "
    "wrong classes and detections of nothing count against them, which is why there is a line without those too. Rank "
    "correlation is Spearman's; bias is the mean of predicted less true; ECE is the mean distance of the two over ten equal "
    "bins of the prediction.",
)


def tiles(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    plain, cut = found["oracles"]["plain"]["AP"], found["clipping"]["all"]
    shown = [(f"{name} AP", _plain(plain[kind])) for kind, name in KINDS.items()]
    if found["fixed_boxes"]:
        shown.append(("Mask IoU in true boxes", _plain(found["fixed_boxes"]["mask_iou"])))
        most = found["fixed_boxes"]["ceiling"]
        shown.append((f"The most that {most['cells']} x {most['cells']} cells can reach", _plain(most["mask_iou"])))
    shown += [
        ("Cut off by boxes, mean", _share(cut["mean"]).strip()),
        ("Objects that lose > 5%", _share(cut["over 5%"]).strip()),
    ]
    shown += [
        (f"Rank correlation of {PREDICTED[n]}", _plain(p["spearman"]))
        for n in PREDICTED
        if (p := found["calibration"][n])
    ]
    return shown + [(name.capitalize(), str(found[name])) for name in ("images", "objects", "detections")]


def oracle_chart(oracles: Mapping[str, Any], kind: str) -> str:
    """A lying bar for each oracle: AP as it is, and from there what the oracle adds or takes, on a scale from 0 to 1."""
    plain, title = oracles["plain"]["AP"][kind], f"{KINDS[kind]} AP, as it is and mended"
    scale, high = (WIDTH - LEFT - RIGHT), TOP + ROW * len(oracles) + 8
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {high}" role="img" aria-label="{escape(title)}" font-family="inherit" '
        'font-size="12" fill="currentColor">',
        f'<text x="12" y="16" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for row, (name, oracle) in enumerate(oracles.items()):
        parts += _row(ORACLES.get(name, "as it is"), plain, oracle["AP"][kind], TOP + ROW * row, scale)
    base = LEFT + plain * scale
    parts.append(
        f'<path d="M{base:.1f} {TOP - 4}V{high - 4}" stroke="currentColor" opacity=".35" stroke-dasharray="3 3"/>'
    )
    parts.append(f'<path d="M{LEFT} {TOP - 4}V{high - 4}" stroke="currentColor" opacity=".35"/>')
    return "".join([*parts, "</svg>"])


def _row(name: str, plain: float, value: float, y: int, scale: float) -> list[str]:
    low, high = min(plain, value), max(plain, value)
    label = f"{value:.3f}" if name == "as it is" else f"{value:.3f}  ({value - plain:+.3f})"
    return [
        f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{low * scale:.1f}" height="{ROW - 7}" fill="{STROKES[0]}" opacity=".45"/>',
        f'<rect x="{LEFT + low * scale:.1f}" y="{y}" width="{(high - low) * scale:.1f}" height="{ROW - 7}" '
        f'fill="{GAIN if value >= plain else LOST}"/>',
        f'<text x="{LEFT + high * scale + 6:.1f}" y="{y + 13}">{label}</text>',
    ]


def trust_charts(name: str, part: Mapping[str, Any]) -> list[str]:
    """Reliability and the number of detections in each bin; nothing for predictions that have no bins."""
    if not part["bins"]:
        return []
    series = {"all": _points(part)}
    if part["located"]:
        series["where the true IoU is at least .5"] = _points(part["located"])
    said = PREDICTED[name]
    title = f"Reliability of the {said} (ECE {_plain(part['ece'])}, bias {part['bias']:+.3f})"
    counts = {_range(b): [float(b["count"])] for b in part["bins"]}
    return [
        line_chart(series, title, said, TRUE[name], up_to=(1.0, 1.0), marked=True, diagonal="as it should be"),
        bar_chart(counts, ["detections"], f"Detections by {said}", form=",.0f"),
    ]


def _points(part: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(b["predicted"], b["true"]) for b in part["bins"] if b["count"]]


def loss_chart(histogram: Sequence[Mapping[str, Any]]) -> str:
    """Objects by the share that is cut off."""
    counts = {_loss_range(b["from"], b["to"]): [float(b["count"])] for b in histogram}
    return bar_chart(counts, ["objects"], "Share of an object that its box cuts off", form=",.0f")


def _loss_range(low: float, high: float) -> str:
    if high == 0:
        return "nothing"
    return f"up to {high:.0%}" if low == 0 else f"{low:.0%} - {high:.0%}"
