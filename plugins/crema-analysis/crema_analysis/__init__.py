"""What a trained model rests on: ablations, easy and hard questions, sweeps over choices and seeds, attention maps."""
