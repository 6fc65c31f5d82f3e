"""What a patch costs: multiply-adds of one forward pass, from shapes alone.

The paper prints 0.07 to 0.17 TFLOP (Table 1). Its numbers come out of a formula with an output projection the released
code does not have; these count what is computed. Norms, softmax, biases and activations are left out, as usual.
"""

from __future__ import annotations

import math


def patch_multiply_adds(
    *,
    num_frames: int,
    tokens_per_frame: int,
    num_steps: int,
    tokens_per_step: int,
    side_dim: int,
    query_dim: int,
    output_dim: int,
    embed_dim: int = 512,
    hidden_dim: int | None = None,
    num_layers: int = 2,
    shared_value: bool = False,
) -> int:
    """Return the multiply-adds of one sample; twice that are floating-point operations.

    Args:
        num_frames: F.
        tokens_per_frame: S visual tokens.
        num_steps: T side steps, dealt out by count; groups are padded to the longest.
        tokens_per_step: N side tokens.
        side_dim: width of side features, mapped linearly.
        query_dim: width of the visual tokens.
        output_dim: language-model width.
        embed_dim: width of the mapped side tokens.
        hidden_dim: width of the layers; None for `embed_dim`.
        num_layers: layers.
        shared_value: values are the keys and not projected again. The released code projects twice with one weight.
    """
    hidden = hidden_dim or embed_dim
    num_queries = num_frames * tokens_per_frame
    steps = max(num_steps, num_frames)
    num_keys = math.ceil(steps / num_frames) * tokens_per_step
    per_query = query_dim * hidden + hidden * 2 * hidden + 2 * hidden * output_dim
    per_query += num_layers * (hidden * hidden + 2 * hidden * 2 * hidden + 2 * num_keys * hidden)
    projections = 1 if shared_value else 2
    side = num_steps * tokens_per_step * side_dim * embed_dim
    side += num_layers * projections * steps * tokens_per_step * embed_dim * hidden
    return num_queries * per_query + side
