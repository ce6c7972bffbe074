"""The commands. Heavy packages are imported inside their bodies, so that help is instant."""
