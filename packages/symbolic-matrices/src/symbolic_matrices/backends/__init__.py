"""The backends. Each is a module with the same two functions: ``compile(plan)`` and ``launch(kernel, problem)``."""
