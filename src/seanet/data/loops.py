"""Many rings together, as numbers in rows: one alone takes numpy longer to be called than to count.

Letters: R rings, E points of all of them, each of which begins an edge that ends at the ring's next point.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Loops:
    points: np.ndarray  # (xy, E)
    counts: np.ndarray  # (R,) how many points each ring has, at least one

    @classmethod
    def of(cls, flat: np.ndarray, counts: np.ndarray) -> "Loops":
        """From x, y, x, y, ... (2E,) of all the rings one after the other."""
        return cls(np.ascontiguousarray(flat.reshape(-1, 2).T), counts)

    @cached_property
    def first(self) -> np.ndarray:
        """(R,) where each ring begins."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def ring(self) -> np.ndarray:
        """(E,) of which ring each point is."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def ends(self) -> np.ndarray:
        """(xy, E) where each edge ends."""
        return self.following(self.points)

    def following(self, rows: np.ndarray) -> np.ndarray:
        """(2, E): of each point what the ring's next point has."""
        after = np.concatenate([rows[:, 1:], rows[:, :1]], 1)
        after[:, self.first + self.counts - 1] = rows[:, self.first]
        return after

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """(xy, R) smallest and largest coordinates; NaN where one is."""
        return np.minimum.reduceat(self.points, self.first, 1), np.maximum.reduceat(self.points, self.first, 1)

    def areas(self) -> np.ndarray:
        """(R,) signed shoelace areas, as ``polygons.ring_area`` but for the rounding of sums."""
        origin = np.repeat(self.points[:, self.first], self.counts, 1)
        (x, y), (u, v) = self.points - origin, self.ends - origin
        return np.add.reduceat(x * v - u * y, self.first) / 2

    def lengths(self) -> np.ndarray:
        """(R,) of the closed rings."""
        return np.add.reduceat(np.hypot(*(self.ends - self.points)), self.first)
