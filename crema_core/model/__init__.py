"""The model room: frozen backbone, Q-Former with one LoRA per sense, adapters, prompt and answers."""
