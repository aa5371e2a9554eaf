"""The renderer of any view."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import View
from sdk.errors import ViewError
from sdk.media.absence import Absence
from sdk.media.frames import Frame
from sdk.media.views.motion import DifferenceRenderer, FlowRenderer
from sdk.media.views.pixels import ViewRenderer
from sdk.media.views.spectrogram import SpectrogramRenderer


class Renderer(Protocol):
    """Renders one view of frames; keeps buffers, so use one per view, from one thread at a time."""

    view: View

    def absent(self, frame: Frame) -> Absence | None:
        """Why ``frame`` has not what the view is made from; None: it can be rendered."""

    def render(self, frame: Frame) -> NDArray[np.uint8]:
        """The view of ``frame``: uint8 of ``view.shape``, C-contiguous, the caller's own.

        Zeros where what it is made from is absent.
        """


def renderer(view: View) -> Renderer:
    """The renderer of ``view``.

    Raises: AdaptiveVideoError for a view of flow where OpenCV is not installed, and for numbers of frames
    or a stack that its modality does not have.
    """
    stacks = view.modality in ("rgbdiff", "flow")
    if (view.stack > 1 and not stacks) or (view.frames > 1 and view.modality == "audio"):
        reason = f"cannot be {view.modality} of {view.frames} frames, {view.stack} of each"
        raise ViewError(f"view {view.name}", reason, "set frames or stack to 1")
    if view.modality == "audio":
        return SpectrogramRenderer(view)
    if view.modality == "rgbdiff":
        return DifferenceRenderer(view)
    if view.modality == "flow":
        return FlowRenderer(view)
    return ViewRenderer(view)
