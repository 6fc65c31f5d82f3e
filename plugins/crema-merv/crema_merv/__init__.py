"""MERV: several frozen encoders see one clip, and a learned query mixes what they see.

Implements MERV (Unifying Specialized Visual Encoders for Video Language Models). The frozen encoders (`group`) say what
they see of the same clip; their features go through a projector each (`projectors`) onto common steps (`alignment`)
into a mixer (`mixers`); `merv` is all three, `connector` puts them before the language model, `released` reads the
released weights into them.
"""
