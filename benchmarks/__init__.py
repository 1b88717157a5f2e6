"""Each figure that README quotes, with one command: `python -m benchmarks`."""
