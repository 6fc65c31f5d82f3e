"""RGB-D views one by one: every patch of every view is a token that knows where in space it is.

The layout of PAVE's 3D side channel (arXiv 2503.19794; its feature files hold 32 views of 24 x 24 patches): a step is a
view, so a fusion that aligns steps keeps views and frames together, which one fused cloud cannot.

Shape letters: V views, H W pixels, h w patches, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from crema_3d.rgbd import Views, is_scan, patch_places, read_views
from crema_core.data.media import check_file, read_arrays, wrong_source
from crema_core.data.sampling import middle_indices
from crema_core.errors import MediaError

WHAT = "a scan of RGB-D views"
LAYOUT = "depth (V, H, W), intrinsics, poses (V, 4, 4) and features (V, h, w, D)"


class ViewTokens(NamedTuple):
    """Patches of the views that are kept.

    Attributes:
        features: `(V, h*w, D)` float32.
        places: `(V, h*w, 3)` float32 metres in the world, 0 where unknown.
        known: `(V, h*w)` bool, whether a pixel of the patch has a depth.
    """

    features: Tensor
    places: Tensor
    known: Tensor


def read_view_tokens(
    source: object, *, feature_dim: int, num_views: int, counts_per_metre: float = 1000.0
) -> ViewTokens:
    """Read pixel-aligned features of RGB-D views and put every patch in space.

    Args:
        source: an `.npz` or dict as `crema_3d.rgbd.read_views` takes it, with `features`.
        feature_dim: D.
        num_views: most views kept, evenly over the scan.
        counts_per_metre: of whole-number depth.

    Raises:
        MediaError: when the source is absent, damaged, of another type, or has other widths.
    """
    if isinstance(source, str | os.PathLike):
        path = check_file(source, what=WHAT, suffixes=(".npz",))
        arrays, name = read_arrays(path), f"'{path}'"
    elif isinstance(source, Mapping):
        arrays, name = dict(source), "The dict"
    else:
        raise wrong_source(source, what=WHAT, accepted=f"a path, or a dict with {LAYOUT}", advice="Pass one of these.")
    if not is_scan(arrays) or "features" not in arrays:
        raise MediaError(
            f"{name} holds {', '.join(map(str, arrays)) or 'nothing'}. encoder='views' reads {LAYOUT}. Save them with "
            "numpy.savez, or choose another encoder."
        )
    views = read_views(arrays, name=name, counts_per_metre=counts_per_metre)
    assert views.features is not None, "asked for above"
    if views.features.shape[-1] != feature_dim:
        raise MediaError(
            f"{name} holds features {tuple(views.features.shape)}. The option feature_dim says (V, h, w, "
            f"{feature_dim}). Set feature_dim={views.features.shape[-1]}."
        )
    kept = torch.tensor(middle_indices(len(views.depth), min(num_views, len(views.depth))))
    chosen = Views(views.depth[kept], views.intrinsics[kept], views.poses[kept], None, views.features[kept])
    places, known = patch_places(chosen)
    return ViewTokens(views.features[kept].flatten(1, 2), places.flatten(1, 2), known.flatten(1))
