"""Encoder, quantiser, decoder, and their losses."""
