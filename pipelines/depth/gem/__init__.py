"""GemDepth: Video-Depth-Anything with predicted camera poses and attention over whole windows."""
