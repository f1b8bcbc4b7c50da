"""Model doubles and faulty servers, for our tests, our benchmarks and users' own tests.

Nothing here imports more than the standard library: a test starts as fast as its server does.
"""
