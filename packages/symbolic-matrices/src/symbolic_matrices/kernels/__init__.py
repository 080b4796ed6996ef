"""How a formula becomes a compiled kernel: its plan, the printed text, the compilers and their cache."""
