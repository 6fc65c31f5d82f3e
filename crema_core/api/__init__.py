"""The verbs that need a whole model: build, load, answer, describe, and the model class that carries them."""
