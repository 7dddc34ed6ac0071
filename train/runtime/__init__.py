"""The machine: hardware, hosts, compilation, signals, profiles."""
