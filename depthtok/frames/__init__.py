"""By what a store's frames are read: spans of bytes, frames of videos, ... One file a kind."""
