"""The commands on a study: start it, run its trials, report on it, watch it.

compare, worker, report, watch   one command each
location    where studies are stored, and how to open one
progress    what a study shows while it runs
"""
