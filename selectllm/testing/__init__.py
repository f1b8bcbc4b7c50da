"""Model doubles and faulty servers, for our tests, our benchmarks and users' own tests."""
