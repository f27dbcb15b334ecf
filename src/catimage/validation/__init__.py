"""Great Expectations suites and their runner."""
