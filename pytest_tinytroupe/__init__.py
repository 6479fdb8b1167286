"""A pytest plugin that keeps simulations of people, and any code that calls a model, fast: ``pytest --perf``."""
