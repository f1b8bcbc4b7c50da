"""Turns instructions into vectors, and keeps them."""
