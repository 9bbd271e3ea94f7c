"""The command line: ``pyro-mgvi demo``, ``fit``, ``rank-genes`` and ``report``."""
