"""Two score lists into one ranking, and back onto the scale of the engine."""
