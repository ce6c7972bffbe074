"""Copies of stores elsewhere: in buckets, on the Hub, on other disks."""
