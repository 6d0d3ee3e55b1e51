"""The command line.

`app.py` has the program, `parameters.py` the types of parameters that commands share, and `study/`
the commands on studies. Every other command has a file with its name; `list` and `info` are in
`inventory.py`.
"""
