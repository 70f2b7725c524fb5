"""What `benchmarks.compare` consists of: who is compared, how they score, and the report."""
