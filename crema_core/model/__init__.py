"""The model room: frozen backbone, Q-Former with one LoRA per modality, adapters, prompt and answers."""
