"""Has a model rank candidates: prompts, answers, the ranker, aggregation and the tournament. Pure of files and steps."""
