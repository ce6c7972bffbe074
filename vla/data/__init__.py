"""What is trained on: episodes and codes, joined, cropped, normalised, in batches."""
