"""The theory behind the projection, measured: lemmas on random losses, and toy problems to look at.

claims      a lemma, and the simulation that measures it
lemmas      the paper's lemmas, and those of projected steps
equilibria  how fast weights turn in the long run
toys        two problems in two and three dimensions, and the optimizers that run on them
pictures    their figures and the animation
"""

from tangential_lab.theory.claims import CLOSE, EXACT, Lemma
from tangential_lab.theory.lemmas import all_lemmas
from tangential_lab.theory.pictures import draw_toy, toy_files
from tangential_lab.theory.toys import MOMENTUM, STEPS_SHOWN, Problem, ToyRun, run_toy
