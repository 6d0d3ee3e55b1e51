"""The parts of bench/step.py.

- peers: the optimizers that are compared
- workloads: shapes of the weights, and gradients that open or shut the gate
- memory: extra memory of a step, measured in a fresh process
- results: one record per case, the table and the CSV file
"""
