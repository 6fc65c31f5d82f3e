"""MERV: several frozen encoders see one clip, and a learned query mixes what they see.

Implements MERV (Unifying Specialized Visual Encoders for Video Language Models). Features of every
encoder go through a projector (`projectors.py`) onto common steps (`alignment.py`) into a mixer (`mixers.py`);
`Merv` is all three, `released.py` reads the released weights into it.
"""

from __future__ import annotations

from crema_core.fusion.merv.merv import Merv, MixerKind, make_mixer
from crema_core.fusion.merv.mixers import Mixed, Mixer
from crema_core.fusion.merv.projectors import Projected, Projector, ProjectorKind

__all__ = ["Merv", "Mixed", "Mixer", "MixerKind", "Projected", "Projector", "ProjectorKind", "make_mixer"]
