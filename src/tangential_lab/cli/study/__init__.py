"""The commands on a study: start it, run its trials, report on it, watch it.

compare, analyse, worker, report, watch   one command each
options     checks and parses the options of compare
settings    options of the commands that start a study
location    where studies are stored, and how to open one
progress    what a study shows while it runs, and how Ctrl-C stops it
"""
