"""Several input files: compared with each other, and joined on disk as one."""
