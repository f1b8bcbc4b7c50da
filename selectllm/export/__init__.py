"""Hands a selection to annotators in the formats of their tools, and takes their annotations back."""
