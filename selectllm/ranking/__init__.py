"""Ranking by a model: prompts, answers, the ranker, aggregation and the tournament. It reads and writes no files."""
