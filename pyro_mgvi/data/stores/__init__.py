"""Where counts lie: in memory, in a file that is larger than memory, or on a device."""
