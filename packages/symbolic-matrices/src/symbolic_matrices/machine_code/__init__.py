"""How compiled kernels are read: instructions, loops, registers, on processors and on GPUs."""
