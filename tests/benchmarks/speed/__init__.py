"""How fast: the sidecar beside the provider reached directly and a plain relay, each in a process of its own.

`python -m tests.benchmarks.speed --help` says how to run it; scenarios.py says what is measured, report.py against
which goals.
"""
