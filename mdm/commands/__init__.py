"""The commands of `mdm`: a module each, whose docstring is what its --help prints and whose ``main`` takes the arguments.

A new command is found by being here.
"""
