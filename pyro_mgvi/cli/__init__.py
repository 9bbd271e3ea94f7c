"""The command line: ``pyro-mgvi demo``, ``fit``, ``rank-genes``, ``programs`` and ``report``."""

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C has ended
