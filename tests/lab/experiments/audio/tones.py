"""Sounds made up for tests."""

import math

import numpy as np


def tone(hz, rate, seconds=1.0, amplitude=0.5):
    time = np.arange(round(rate * seconds)) / rate
    return (amplitude * np.sin(2 * math.pi * hz * time)).astype(np.float32)
