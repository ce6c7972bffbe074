"""The ground floor: what the data are and how they lie on disk."""
