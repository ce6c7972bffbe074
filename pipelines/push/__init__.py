"""Codebooks, code stores and policies to the Hugging Face Hub, with a card of what is recorded."""
