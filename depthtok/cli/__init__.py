"""The command line. Heavy packages are imported inside bodies, so that help is instant."""
