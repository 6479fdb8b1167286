"""What a run of ``pytest --perf`` leaves to read."""
