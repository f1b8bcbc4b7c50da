"""Answers of tuned models to a set of questions: asked for, read from files, and compared with references."""
