"""Several rings as one, for formats whose objects have a single outline.

A bridge goes from one ring to the next and back the same way, so it has no width and encloses no pixel: filling the
joined ring, by the even-odd rule or by winding numbers, gives the same pixels as the rings gave, parts and holes included.
"""

from collections.abc import Sequence

import numpy as np

from seanet.polygons import Ring, mask_polygons

MOST_WORK = 20_000_000  # rings times points, which joining takes: a second or two


def outline(bits: np.ndarray, x0: int, y0: int) -> tuple[Ring | None, int]:
    """The one ring of a bitmap with its corner at (x0, y0), and how many it joins; None if those are none or too many."""
    rings = [ring for polygon in mask_polygons(bits, x0, y0) for ring in polygon]
    work = len(rings) * sum(map(len, rings))
    return join(rings) if 0 < work <= MOST_WORK else None, len(rings)


def join(rings: Sequence[Ring]) -> Ring:
    """Each ring is joined to those before it where a point of theirs is near."""
    joined = rings[0]
    for ring in rings[1:]:
        # The nearest pair of points would take their product in time; there and back from one point takes their sum.
        a = _nearest(joined, ring[0])
        b = _nearest(ring, joined[a])
        a = _nearest(joined, ring[b])
        joined = np.concatenate([joined[: a + 1], ring[b:], ring[: b + 1], joined[a:]])
    return joined


def _nearest(points: Ring, to: np.ndarray) -> int:
    return int(((points - to) ** 2).sum(1).argmin())
