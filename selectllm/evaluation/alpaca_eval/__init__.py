"""AlpacaEval 2: win rates of a model against a baseline, raw and at equal length, from annotations in its format."""
