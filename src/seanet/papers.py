"""The tables of the SEANet paper: its rows, the recipe that each row is, and its figures.  Free of torch.

AP is in percent, of masks (``segm``) and of boxes (``bbox``); parameters are in millions, run times in milliseconds.
"""

from dataclasses import dataclass

from seanet.errors import UserError

APS = ("segm/AP", "segm/AP50", "segm/AP75", "bbox/AP", "bbox/AP50", "bbox/AP75")
TABLE_5 = (
    "table 5 has no recipes here: the paper does not say how its accuracy in bands around boundaries is measured, so nothing "
    "can stand beside it; 'seanet val' measures bands in a way that docs/paper.md defines"
)


@dataclass(frozen=True)
class Row:
    name: str
    """As the paper calls it."""
    recipe: str | None
    """None: quoted by the paper from others."""
    figures: tuple[float, ...]
    """In the order of the table's columns; quoted rows have the first alone."""


@dataclass(frozen=True)
class Table:
    number: int
    title: str
    data: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


TABLES = {
    table.number: table
    for table in (
        Table(
            1,
            "Comparison with other methods",
            "COCO test-dev",
            ("segm/AP", "bbox/AP"),
            (
                Row("MNC", None, (24.6,)),
                Row("FCIS", None, (29.2,)),
                Row("FCIS+++", None, (33.6,)),
                Row("Mask R-CNN + ours, R101", "seanet_r101", (37.7, 41.7)),
                Row("Mask R-CNN + ours, X101", "seanet_x101", (39.7, 44.3)),
                Row("MS R-CNN + ours, R101", "seanet_ms_r101", (38.6, 41.7)),
                Row("MS R-CNN + ours, X101", "seanet_ms_x101", (40.5, 44.3)),
            ),
        ),
        Table(
            2,
            "What each part adds, R101",
            "COCO val2017",
            APS,
            (
                Row("baseline", "mask_rcnn_r101", (36.5, 58.1, 39.0, 40.3, 61.5, 44.1)),
                Row("box head with B-IoU", "seanet_r101_box", (36.7, 57.6, 39.6, 41.5, 60.2, 44.9)),
                Row("attention", "seanet_r101_attention", (36.9, 57.8, 39.5, 40.4, 61.5, 44.3)),
                Row("box head + attention", "seanet_r101_box_attention", (37.0, 57.5, 39.9, 41.5, 60.1, 45.0)),
                Row("attention + L_edge", "seanet_r101_edge", (37.5, 58.8, 40.6, 40.8, 61.7, 44.8)),
                Row("all", "seanet_r101", (37.7, 57.8, 40.8, 41.7, 60.0, 45.6)),
            ),
        ),
        Table(
            3,
            "SEANet in other detectors and on other backbones",
            "COCO val2017",
            ("segm/AP", "bbox/AP"),
            (
                Row("Mask R-CNN, R50", "mask_rcnn_r50", (34.5, 38.0)),
                Row("Mask R-CNN + ours, R50", "seanet_r50", (36.0, 39.4)),
                Row("Mask R-CNN, R101", "mask_rcnn_r101", (36.5, 40.3)),
                Row("Mask R-CNN + ours, R101", "seanet_r101", (37.7, 41.7)),
                Row("Mask R-CNN, X101", "mask_rcnn_x101", (37.7, 42.0)),
                Row("Mask R-CNN + ours, X101", "seanet_x101", (39.4, 44.1)),
                Row("MS R-CNN, R50", "ms_rcnn_r50", (36.0, 38.6)),
                Row("MS R-CNN + ours, R50", "seanet_ms_r50", (36.9, 39.6)),
                Row("MS R-CNN, R101", "ms_rcnn_r101", (37.8, 40.7)),
                Row("MS R-CNN + ours, R101", "seanet_ms_r101", (38.5, 41.8)),
                Row("MS R-CNN, X101", "ms_rcnn_x101", (38.8, 42.1)),
                Row("MS R-CNN + ours, X101", "seanet_ms_x101", (39.8, 43.7)),
            ),
        ),
        Table(
            4,
            "Designs of edge attention, R50",
            "COCO val2017",
            ("segm/AP", "segm/AP50", "segm/AP75"),
            (
                Row("baseline", "mask_rcnn_r50", (34.5, 55.8, 36.7)),
                Row("sum", "seanet_r50", (36.0, 55.4, 39.2)),
                Row("concat", "seanet_r50_concat", (35.6, 55.0, 38.8)),
                Row("no edge supervision", "seanet_r50_box_attention", (35.1, 54.6, 38.4)),
            ),
            "sum has the mask AP of SEANet with R50 in table 3: these rows have its box head too",
        ),
        Table(
            6,
            "Parameters and run time, R101",
            "COCO val2017",
            ("parameters", "run time"),
            (
                Row("Mask R-CNN", "mask_rcnn_r101", (63.17, 405)),
                Row("box head", "seanet_r101_box", (58.04, 450)),
                Row("edge head", "seanet_r101_edge", (71.32, 428)),
                Row("all", "seanet_r101", (64.89, 464)),
            ),
            "the paper's rows but the first hold 1.31 M of pooling from all levels, half of it never used; its run times "
            "cannot be those of whole images, so ours (seanet bench) do not stand beside them",
        ),
    )
}


def paper_table(number: int) -> Table:
    """The table of that number; table 5 and unknown numbers are answered with a sentence."""
    if number == 5:
        raise UserError(TABLE_5, value=number)
    if number not in TABLES:
        raise UserError(f"the paper has tables 1 to 6, not {number}", value=number)
    return TABLES[number]
