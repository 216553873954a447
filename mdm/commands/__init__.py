"""What a person runs: each module's ``main`` takes the arguments of a command line."""
