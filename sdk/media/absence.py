"""Why something that a view is made from is not there."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.results import ABSENT, FAILED, LATE


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a step lacks what a view is made from.

    ``permanent``: it stays so as long as the source lasts; otherwise it may come. ``outcome``: what results
    say of the modality, ``absent`` (with the reason), ``late`` or ``failed`` (with the reason).
    """

    reason: str
    permanent: bool = False
    outcome: str = ABSENT

    def __str__(self) -> str:
        return self.outcome if self.outcome == LATE else f"{self.outcome}: {self.reason}"


NO_TRACK = Absence("no audio track", permanent=True)
NOT_DECODED = Absence("no sound is decoded", permanent=True)
SOUND_IS_LATE = Absence("late", outcome=LATE)
SOUND_ENDED = Absence("the sound ended")
SOUND_NOT_BEGUN = Absence("the sound has not begun")


def failure(reason: str) -> Absence:
    """Of what was there and could not be rendered at this step."""
    return Absence(reason, outcome=FAILED)
