"""A study's plan and trials in a database, shared by any number of workers.

store     the plan; claims, heartbeats and records of trials
trials    Optuna's trials, claims on them, and whether their workers are alive
records   the record of a trial as text
database  opening SQLite files and servers, and what is wrong with them
urls      URLs of databases, shown without passwords
"""
