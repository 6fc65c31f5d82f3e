"""The media readers a modality uses in `prepare`, in one place to import from.

    >>> from crema_core.data.media import read_frames, resize
    >>> clip = read_frames("clip.mp4", num_frames=4)        # doctest: +SKIP
    >>> resize(clip.frames, 224).shape                      # doctest: +SKIP
    torch.Size([4, 3, 224, 224])

Every reader raises `MediaError` for sources that are absent, empty, damaged or of another type.
"""

from crema_core.data.clips import Clip, read_clip
from crema_core.data.doubts import doubt
from crema_core.data.files import (
    accepts,
    check_file,
    content_of,
    damaged,
    is_cut,
    list_files,
    name_of,
    require_numbers,
    unreadable,
    wrong_source,
)
from crema_core.data.images import (
    FRAME_SUFFIXES,
    ColormapName,
    Reader,
    colorize,
    read_array,
    read_arrays,
    read_frames,
    read_image,
    read_raw_image,
    read_stack,
    resize,
)
from crema_core.data.limits import in_time, require_room, require_size, require_time
from crema_core.data.pictures import IMAGE_SUFFIXES, Pages, orientation_of, read_pages, upright
from crema_core.data.sampling import Pick, file_of, middle_indices, rate_indices, segment_spans
from crema_core.plugins.spec import ARRAY_SUFFIXES, CLIP_SUFFIXES, SOUND_SUFFIXES

__all__ = [
    "ARRAY_SUFFIXES",
    "CLIP_SUFFIXES",
    "FRAME_SUFFIXES",
    "IMAGE_SUFFIXES",
    "SOUND_SUFFIXES",
    "Clip",
    "ColormapName",
    "Pages",
    "Pick",
    "Reader",
    "accepts",
    "check_file",
    "colorize",
    "content_of",
    "damaged",
    "doubt",
    "file_of",
    "in_time",
    "is_cut",
    "list_files",
    "middle_indices",
    "name_of",
    "orientation_of",
    "rate_indices",
    "read_array",
    "read_arrays",
    "read_clip",
    "read_frames",
    "read_image",
    "read_pages",
    "read_raw_image",
    "read_stack",
    "require_numbers",
    "require_room",
    "require_size",
    "require_time",
    "resize",
    "segment_spans",
    "unreadable",
    "upright",
    "wrong_source",
]
