"""What the files of a data set say of themselves, without decoding any."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from compiler.data.clips import ClipSet
from compiler.errors import DataError
from sdk.errors import SourceError
from sdk.media.sources.probe import Probe, probe

_PROBED_AT_MOST = 500


def probe_clips(clips: ClipSet) -> Sequence[Probe]:
    """Of at most 500 clips, spread evenly over the set; those that cannot be opened are passed over."""
    stride = -(-len(clips.clips) // _PROBED_AT_MOST)
    probes = []
    for clip in clips.clips[::stride]:
        try:
            probes.append(probe(clip.path))
        except SourceError:
            continue  # The cache reports it, with every other clip that cannot be decoded.
    return probes


def any_sound(clips: ClipSet) -> bool:
    """Whether a clip of the set has sound, as far as it is probed."""
    return any(entry.has_sound for entry in probe_clips(clips))


def require_modalities(clips: ClipSet, modalities: Collection[str]) -> None:
    """Raises: DataError if no clip that is probed can be opened, or none has the sound that is needed."""
    probes = probe_clips(clips)
    if not probes:
        reason = "not one of its clips has pictures that can be read"
        raise DataError(clips.origin, reason, "give videos or images; sound alone will not do")
    if "audio" in modalities and not any(entry.has_sound for entry in probes):
        fix = "leave audio out of --modalities, or give clips that have it"
        raise DataError("modality audio", "not one of the clips has it", fix)
