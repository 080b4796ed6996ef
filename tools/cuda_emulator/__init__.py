"""Runs CUDA kernels on a CPU, for tests on machines without a GPU."""
