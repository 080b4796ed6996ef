"""The language of formulas: expression graphs, the tables of operations and reductions, symbolic rules."""
