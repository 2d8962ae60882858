"""What may be said of a difference: better, worse, or nothing."""

from statistics import fmean

from experiment.evidence import ALL, Evidence

# Student's t at 97.5 % for 1, 2, ... degrees of freedom; the last stands for all that follow.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
BETTER, WORSE, NOTHING = "better", "worse", "no difference seen"
WITHIN, UNKNOWN = "within noise", "noise unknown"
SURE = (BETTER, WORSE)


def least(evidence: Evidence, key: str, seeds: int, group: str = ALL) -> float | None:
    """How far two means over that many seeds must lie apart to be beyond what seeds alone do; None: not known."""
    deviation, freedom = evidence.noise(key, group)
    return STUDENT[min(freedom, len(STUDENT)) - 1] * deviation * (2 / seeds) ** 0.5 if freedom else None


def verdict(evidence: Evidence, row: str, against: str, key: str, group: str = ALL) -> str:
    """In words; "-" where the difference was not measured.

    It is better or worse if its interval excludes zero and it is larger than the noise of seeds.  Of two readings of the
    same weights, which have no such noise, the interval alone decides.
    """
    found = evidence.difference(row, against, key, group)
    if found is None or found.by != found.by:
        return "-"
    same = evidence.source(row) == evidence.source(against)
    enough = 0.0 if same else least(evidence, key, len(found.each), group)
    if not found.sure:
        return NOTHING
    if enough is None and not found.both:
        return UNKNOWN
    if abs(found.by) <= (enough or 0.0):
        return WITHIN
    return BETTER if found.by > 0 else WORSE


def beyond_noise(evidence: Evidence, row: str, against: str, key: str, group: str = ALL) -> bool:
    """Whether means over seeds differ by more than seeds alone make them; False where either or the noise is unknown."""
    a, b = (evidence.values(name, key, group) for name in (against, row))
    enough = least(evidence, key, min(len(a), len(b)), group) if a and b else None
    return enough is not None and abs(fmean(b) - fmean(a)) > enough
