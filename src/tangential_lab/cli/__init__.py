"""The command line.

`app` has the program with `list` and `info`, `parameters` the types of parameters that commands
share, and `study/` the commands on studies. Every other command has a file with its name.
"""
