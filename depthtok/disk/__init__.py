"""How bytes reach the disk and are read from it: atomic files, locks, maps, limits."""
