"""Data that lie in buckets, on the Hub or behind https: places, reading, caching, writing."""
