"""Audio: keywords, sound events and music, by Harmonic CNN."""

from tangential_lab.experiments.audio.task import audio
