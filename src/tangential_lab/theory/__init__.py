"""The theory behind the projection, measured: lemmas on random losses, and toy problems to look at.

claims      a lemma, and the simulation that measures it
steps       claims about single steps: how far a weight grows and turns
lemmas      the paper's lemmas, and the list of all claims
equilibria  how fast weights turn in the long run
toys        two problems in two and three dimensions, and the optimizers that run on them
pictures    their figures and the animation
"""

from tangential_lab.theory.claims import Lemma
from tangential_lab.theory.lemmas import all_lemmas
from tangential_lab.theory.pictures import draw_toy, toy_files
from tangential_lab.theory.toys import MOMENTUM, STEPS_SHOWN, Problem, ToyRun, run_toy
