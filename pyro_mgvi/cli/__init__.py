"""The command line: ``pyro-mgvi demo``, ``fit``, ``rank-genes``, ``programs`` and ``report``."""
