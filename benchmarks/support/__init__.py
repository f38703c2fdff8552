"""What the benchmarks share; `make bench` runs the scripts one floor up."""
