"""The processes that run the trials of a study.

worker     claims trials and trains them, one after another
pool       child processes; the workers on this machine, replaced when they die
preflight  a test of the user's optimizers before a study starts; import it where it is used
"""
