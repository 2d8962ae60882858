"""Sets of scenes by name: easy shapes, and the benchmark of boundaries.

``boundary`` is made of the three failures that SEANet's paper begins with, a quarter of the images each, and a quarter
without: masks that a box cuts because thin far parts decide it, boundaries that are soft, crowds of like colour.
"""

from seanet.data.scenes import Scene

CLASSES = ("ring", "star", "fork", "crescent", "blob", "spider", "tadpole", "frame")
THIN = ("spider", "tadpole", "fork", "star")

BOUNDARY = (
    Scene(
        classes=CLASSES,
        failure="none",
        objects=(2, 5),
        sides=(0.22, 0.5),
        alike=0.25,
        scraps=(0, 4),
    ),
    Scene(
        classes=CLASSES + 3 * THIN,
        failure="box",
        objects=(2, 5),
        sides=(0.3, 0.75),
        squeeze=(0.5, 1.0),
        alike=0.5,
        scraps=(2, 6),
    ),
    Scene(
        classes=CLASSES,
        failure="blur",
        objects=(2, 5),
        sides=(0.22, 0.55),
        alike=0.45,
        scraps=(0, 4),
        shadow=0.6,
        soft=(0.004, 0.012),
        blur=(0.4, 0.9),
    ),
    Scene(
        classes=CLASSES,
        failure="clutter",
        objects=(5, 9),
        sides=(0.18, 0.42),
        together=0.85,
        reach=(0.45, 0.9),
        visible=0.4,
        alike=0.8,
        scraps=(2, 6),
    ),
)
"""Image i of a split is drawn from scene i modulo four."""

PRESETS: dict[str, tuple[Scene, ...]] = {"shapes": (Scene(),), "boundary": BOUNDARY}
