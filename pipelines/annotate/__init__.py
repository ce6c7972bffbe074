"""annotate: EpisodeStore -> DepthStore, and on to codes."""
