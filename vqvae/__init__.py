"""The depth tokeniser: depth images to 16x16 grids of 256 codes, and back."""
