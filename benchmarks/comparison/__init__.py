"""The parts of `benchmarks.compare`: the compared runs, their scores, and the report."""
