"""Methods to compare with, all with one interface; see :mod:`pyro_mgvi.baselines.methods`."""
