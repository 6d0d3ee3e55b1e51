"""The commands on a study: start it, work on it, judge it, show it.

compare, worker, report, watch   one command each
location    where studies are, and how to open one
progress    what a study shows while it runs
tables      a report on the terminal
server      serves the page of `watch`
"""
