"""The rows of the ablation: what is trained or read again, what it is compared with, and why.  Free of torch.

"Row n" in a note is row n of the table of gaps in docs/paper.md; "table n" is the paper's.
"""

from dataclasses import dataclass

from experiment.presets import Preset

from seanet.config import Config
from seanet.errors import UserError
from seanet.recipes import ABLATED, FAMILIES
from seanet.settings import override

READ_ONLY = ("box.iou_activation", "box.iou_power", "box.cell", "detections.nms")
"""Settings that no loss depends on, in models without a cascade: trained weights can be read again with others."""


@dataclass(frozen=True)
class Row:
    name: str
    family: str
    """Name of its function in recipes.py: the recipe's, less the backbone."""
    note: str
    settings: tuple[str, ...] = ()
    """What differs from the recipe, as ``seanet train --set`` takes it."""
    of: str | None = None
    """The row whose trained weights are read again with these settings; None: this row is trained."""
    against: str | None = None
    """The row it is compared with."""


def _on_seanet(name: str, note: str, *settings: str, of: str | None = None) -> Row:
    return Row(f"seanet_{name}", "seanet", note, settings, of, "seanet")


def _in_table_2(family: str, note: str) -> Row:
    return Row(family, family, f"table 2: {note}", against="mask_rcnn")


BASELINE = Row("mask_rcnn", "mask_rcnn", "table 2: Mask R-CNN, the baseline")
WHOLE = _in_table_2("seanet", "box head, attention and edge supervision: SEANet")
PARTS = (
    _in_table_2("seanet_edge", "attention and edge supervision"),
    _in_table_2("seanet_box", "box head with B-IoU"),
    _in_table_2("seanet_box_plain", "box head without B-IoU"),
    _in_table_2("seanet_attention", "attention, not supervised"),
    _in_table_2("seanet_box_attention", "box head and attention, not supervised; table 4: no edge supervision"),
)
POOLING = (
    Row("mask_rcnn_fused", "mask_rcnn_fused", "row 1: pooling from all levels, in the baseline", against="mask_rcnn"),
    Row("seanet_fused", "seanet_fused", "row 1: pooling from all levels, in SEANet", against="seanet"),
    Row(
        "seanet_edge_fused",
        "seanet_edge",
        "row 1: the mask head alone, pooling from all levels",
        ("pool.kind=fused",),
        against="mask_rcnn_fused",
    ),
    Row(
        "mask_rcnn_coarse",
        "mask_rcnn",
        "pooling from one level, coarser by two, in the baseline",
        ("pool.canonical_scale=56",),
        against="mask_rcnn",
    ),
)
CONCAT = Row("seanet_concat", "seanet_concat", "table 4: the edge path beside the mask path", against="seanet")
INGREDIENTS = (
    Row("seanet_channel", "seanet_channel", "of the mask head channel attention alone", against="mask_rcnn"),
    Row("seanet_position", "seanet_position", "of the mask head position attention alone", against="mask_rcnn"),
    Row("seanet_supervision", "seanet_supervision", "of the mask head edge supervision alone", against="mask_rcnn"),
)
SWITCHES = (
    _on_seanet("pixels", "row 2: distances in pixels", "box.regression=pixels"),
    _on_seanet("convs_4", "towers of the box head of four convolutions", "box.convs=4"),
    _on_seanet("class_4", "the class loss of the box head four times as heavy", "box.class_weight=4"),
    _on_seanet("any", "row 4: cells inside any object are positive", "box.positives=any"),
    _on_seanet("target_iou", "row 6: B-IoU learns the IoU", "box.iou_target=iou"),
    _on_seanet("target_clamped", "row 6: B-IoU learns GIoU, at least 1e-6", "box.iou_target=clamped_giou"),
    _on_seanet("attached", "row 6: the B-IoU loss moves the boxes too", "box.iou_detached=false"),
    _on_seanet(
        "cross_entropy",
        "row 7: B-IoU trained as a probability",
        "box.iou_loss=cross_entropy",
        "box.iou_activation=sigmoid",
    ),
    _on_seanet("crop_edges", "row 10: the crop's frame counts as an edge", "mask.edge_context=false"),
    _on_seanet("edge_weight_5", "row 11: edge cells weigh 5", "mask.edge_positive_weight=5"),
    _on_seanet("hard", "row 12: mask targets cut at one half", "mask.target=hard"),
    Row("mask_rcnn_hard", "mask_rcnn", "row 12: the same in the baseline", ("mask.target=hard",), against="mask_rcnn"),
    _on_seanet("relu", "row 14: ReLU between paired convolutions", "mask.activation=relu"),
)
READINGS = (
    _on_seanet("read_sigmoid", "row 7: sigmoid of what was trained without", "box.iou_activation=sigmoid", of="seanet"),
    _on_seanet("read_class", "row 7: the class score alone ranks", "box.iou_power=0", of="seanet"),
    _on_seanet("read_power_25", "row 7: class^.75 x B-IoU^.25", "box.iou_power=0.25", of="seanet"),
    _on_seanet("read_power_75", "row 7: class^.25 x B-IoU^.75", "box.iou_power=0.75", of="seanet"),
    _on_seanet("read_class_first", "row 8: the cell of the best class speaks", "box.cell=class_first", of="seanet"),
    _on_seanet("read_nms_50", "row 16: the baseline's suppression", "detections.nms=0.5", of="seanet"),
    Row(
        "mask_rcnn_read_nms_60",
        "mask_rcnn",
        "row 16: SEANet's suppression in the baseline",
        ("detections.nms=0.6",),
        "mask_rcnn",
        "mask_rcnn",
    ),
)

GROUPS: dict[str, tuple[Row, ...]] = {
    "main": (BASELINE, WHOLE),
    "readings": READINGS,
    "table2": (BASELINE, WHOLE, *PARTS),
    "table4": (WHOLE, CONCAT, PARTS[-1]),
    "pooling": POOLING,
    "ingredients": INGREDIENTS,
    "switches": SWITCHES,
}
"""In the order in which they tell most for their hours."""
ROWS: dict[str, Row] = {row.name: row for group in GROUPS.values() for row in group}


def group(name: str) -> tuple[Row, ...]:
    """The rows of a group, of "all", or the one of that name."""
    if name == "all":
        return tuple(ROWS.values())
    if name in GROUPS:
        return GROUPS[name]
    if name in ROWS:
        return (ROWS[name],)
    known = ", ".join(("all", *GROUPS))
    raise UserError(f"there is no row or group {name!r}: groups are {known}; --list shows the rows", field="rows")


def recipe_of(row: Row, preset: Preset) -> Config:
    made = {make.__name__: make for make in (*FAMILIES.values(), *ABLATED)}
    return made[row.family](preset.backbone)


def changes(row: Row, preset: Preset) -> tuple[str, ...]:
    """What ``--set`` is given, seed apart."""
    length = (f"train.steps={preset.steps}", f"train.batch={preset.batch}")
    inherited = ROWS[row.of].settings if row.of else ()
    return (*preset.settings, *length, *inherited, *row.settings)


def configuration(row: Row, preset: Preset, seed: int) -> Config:
    return override(recipe_of(row, preset), [*changes(row, preset), f"train.seed={seed}"])
