"""Has a model rank candidates: prompts, answers, the ranker, aggregation and the tournament."""
