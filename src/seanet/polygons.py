"""Exact outlines of binary masks.  Pixel i covers i..i+1, so outlines run along the edges between pixels.

Numbers, not the screen, say which way a ring goes: outer rings have a positive shoelace area in (x, y), which is
clockwise on a screen whose y points down; holes have a negative one.
"""

import numpy as np

Ring = np.ndarray  # (n, 2) float64, (x, y) in pixels of the image, closed without repeating its first point
Segments = tuple[np.ndarray, np.ndarray, np.ndarray]  # (E, 2) start, (E, 2) end, (E,) direction

RIGHT, DOWN, LEFT, UP = range(4)  # each a right turn after the one before


def mask_polygons(bits: np.ndarray, x0: float = 0, y0: float = 0) -> list[list[Ring]]:
    """One polygon ``[outer, *holes]`` for each 4-connected part of a bitmap; filling them gives the bitmap back.

    ``bits`` is (h, w), its corner at (x0, y0) of the image.  Rings are simple: where two parts or two holes touch at
    a corner they share that point and nothing else.  A bitmap without a set pixel gives an empty list.
    """
    if np.ndim(bits) != 2:
        raise ValueError(f"expected a bitmap of shape (h, w), got {np.shape(bits)}")
    bits = np.asarray(bits) != 0
    segments = _segments(bits)
    rings = _link(segments)
    start = segments[0] + np.array([x0, y0], np.float64)
    outlines = [start[ring] for ring in rings]
    outer = [ring_area(outline) > 0 for outline in outlines]
    polygons = {r: [outlines[r]] for r in range(len(rings)) if outer[r]}
    if len(polygons) < len(rings):
        for hole, parent in _parents(bits, segments, rings, outer).items():
            polygons[parent].append(outlines[hole])
    return list(polygons.values())


def ring_area(ring: Ring) -> float:
    """Signed shoelace area in square pixels; positive for outer rings."""
    x, y = (ring - ring[:1]).T
    return float(np.dot(x, following(y)) - np.dot(y, following(x))) / 2


def following(points: np.ndarray) -> np.ndarray:
    """For each point of a ring the next one, as np.roll has it, which takes ten times as long for a few points."""
    return np.concatenate([points[1:], points[:1]])


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Douglas and Peucker: the fewest of the ring's points that keep the others within ``tolerance`` pixels.

    Rings that would fall below three points come back as they are.  A large tolerance can make a ring cross itself.
    """
    if tolerance <= 0 or len(ring) < 4:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(1)))
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, -1]] = True
    todo = [(0, far), (far, len(ring))]
    while todo:
        a, b = todo.pop()
        if b - a < 2:
            continue
        distance = _distance(closed[a + 1 : b], closed[a], closed[b])
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            middle = a + 1 + worst
            keep[middle] = True
            todo += [(a, middle), (middle, b)]
    return ring[keep[:-1]] if keep[:-1].sum() >= 3 else ring


def _distance(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of (n, 2) points to the segment from a to b."""
    along = b - a
    t = np.clip((points - a) @ along / max(float(along @ along), 1e-12), 0, 1)
    return np.hypot(*(points - a - t[:, None] * along).T)


def _segments(bits: np.ndarray) -> Segments:
    """Straight pieces of the outline between corners, each with the object on its right hand."""
    padded = np.pad(bits, 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]  # pixels around each lattice point
    crossing = (a == d) & (b == c) & (a != b)
    corners = (a ^ b ^ c ^ d).astype(np.uint8) + 2 * crossing
    across, level = _pairs(corners)
    upright, column = _pairs(corners.T)
    below = padded[level + 1, across[:, 0] + 1]
    left = padded[upright[:, 0] + 1, column]
    flat = np.stack([across, np.stack([level, level], 1)], 2)  # (E, 2 ends, xy)
    tall = np.stack([np.stack([column, column], 1), upright], 2)
    flat[~below] = flat[~below, ::-1]
    tall[~left] = tall[~left, ::-1]
    ends = np.concatenate([flat, tall])
    direction = np.concatenate([np.where(below, RIGHT, LEFT), np.where(left, DOWN, UP)])
    return ends[:, 0], ends[:, 1], direction


def _pairs(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E, 2) first and last column, (E,) row: along a row, outlines run from every odd corner to the next even one."""
    row, column = np.nonzero(corners)
    times = corners[row, column]  # a crossing ends one piece and starts another
    return np.repeat(column, times).reshape(-1, 2), np.repeat(row, times)[::2]


def _link(segments: Segments) -> list[list[int]]:
    """Rings of segment numbers.

    At a crossing the outline turns right, which keeps it on its own 4-connected part; a ring that comes back to a
    crossing is cut there, so that every ring is simple.
    """
    start, end, direction = segments
    if not len(start):
        return []
    width = int(start[:, 0].max()) + 1
    point, goal = start @ (1, width), end @ (1, width)
    order = np.argsort(point * 4 + direction)
    key = (point * 4 + direction)[order]
    right, left = goal * 4 + (direction + 1) % 4, goal * 4 + (direction + 3) % 4
    at = np.searchsorted(key, right).clip(max=len(key) - 1)
    following = order[np.where(key[at] == right, at, np.searchsorted(key, left).clip(max=len(key) - 1))].tolist()
    crossings, times = np.unique(point, return_counts=True)
    crossing = np.isin(point, crossings[times > 1]).tolist()
    return _walk(following, crossing, point.tolist())


def _walk(following: list[int], crossing: list[bool], point: list[int]) -> list[list[int]]:
    rings, used = [], [False] * len(following)
    for first in range(len(following)):
        path, passed, here = [], {}, first
        while not used[here]:
            if crossing[here]:
                if point[here] in passed:
                    rings.append(_cut(path, passed, point, passed[point[here]]))
                passed[point[here]] = len(path)
            used[here] = True
            path.append(here)
            here = following[here]
        if path:
            rings.append(path)
    return rings


def _cut(path: list[int], passed: dict[int, int], point: list[int], begin: int) -> list[int]:
    """Take the loop since ``begin`` off the path."""
    loop = path[begin:]
    del path[begin:]
    for segment in loop:
        passed.pop(point[segment], None)
    return loop


def _parents(bits: np.ndarray, segments: Segments, rings: list[list[int]], outer: list[bool]) -> dict[int, int]:
    """The outer ring of each hole.

    The pixel above a hole's top lies in a run of its part; the run's left end lies on the part's outer ring or on a
    hole that reaches higher, so that following these ends at the outer ring.
    """
    start, end, direction = segments
    owner = np.zeros(bits.shape, np.int32)  # ring of the left edge of each run
    for number, ring in enumerate(rings):
        for segment in ring:
            if direction[segment] == UP:
                (x, bottom), top = start[segment], end[segment, 1]
                owner[top:bottom, x] = number
    above = {}
    for number, ring in enumerate(rings):
        if not outer[number]:
            flat = [s for s in ring if direction[s] in (LEFT, RIGHT)]
            top = min(flat, key=lambda s: start[s, 1])
            x, y = end[top, 0], start[top, 1] - 1
            gaps = np.flatnonzero(~bits[y, :x])
            above[number] = int(owner[y, gaps[-1] + 1 if len(gaps) else 0])
    parents = {}
    for hole, ring in above.items():
        while not outer[ring]:
            ring = above[ring]
        parents[hole] = ring
    return parents
