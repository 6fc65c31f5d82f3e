"""Video language models as backbones: LLaVA-OneVision, Video-LLaVA, Qwen2-VL and Qwen2.5-VL."""
