"""VideoChat2 with Mistral-7B, CREMA's second backbone (Table 6), and InstructBlipVideo."""
