"""Vision-language models of transformers as backbones: their own processor, forward pass and generation, untouched."""
