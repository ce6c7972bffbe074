"""Training, its resume state, and the codebook that it ends with."""
