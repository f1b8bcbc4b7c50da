"""Faulty servers for our tests, our benchmarks and users' own tests, of the standard library alone: they start fast."""
