"""Has a model judge which of two answers is better, and compares a judge with people."""
