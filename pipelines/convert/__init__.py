"""convert: RLDS directory -> EpisodeStore."""
