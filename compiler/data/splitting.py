"""Parts clips into training and validation: the same parts every time, groups kept whole."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

VAL_SHARE = 0.2


def val_groups(members: Sequence[tuple[str, str]], share: float = VAL_SHARE) -> frozenset[str]:
    """The groups that go to validation, about ``share`` of every label's clips.

    ``members``: (group, label) of every clip. Groups are tried in the order of their hashes, so the answer
    depends on names alone, neither on the order of the list nor on a random seed. No label loses its last
    training clip.
    """
    sizes = Counter(label for _, label in members)
    wanted = {label: max(1.0, share * size) for label, size in sizes.items()}
    per_group: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in members:
        per_group[group][label] += 1
    chosen: set[str] = set()
    taken: Counter[str] = Counter()
    for group in sorted(per_group, key=_hash):
        counts = per_group[group]
        if any(taken[label] + count >= sizes[label] for label, count in counts.items()):
            continue
        if _gain(counts, taken, wanted) > 0:
            chosen.add(group)
            taken += counts
    return frozenset(chosen)


def _gain(counts: Counter[str], taken: Counter[str], wanted: dict[str, float]) -> float:
    """By how many clips the labels come closer to the wanted share if a group is taken."""
    return sum(
        abs(wanted[label] - taken[label]) - abs(wanted[label] - taken[label] - count)
        for label, count in counts.items()
    )


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
