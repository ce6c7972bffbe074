"""Stores: directories of parts, and what each kind of them holds."""
