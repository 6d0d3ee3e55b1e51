"""The theory behind the projection, measured: lemmas on random losses, and toy problems to look at.

claims      a lemma, and the simulation that measures it
steps       claims about single steps: how far a weight grows and turns
lemmas      the paper's lemmas, and the list of all claims
equilibria  how fast weights turn in the long run
toys        two problems in two and three dimensions, and the optimizers that run on them
comparison  the paper's paths in three dimensions, and ours
pictures    their figures and the animation
gate/       what the gate's threshold does by chance and to small modules
"""

from tangential_lab.theory.claims import Lemma
from tangential_lab.theory.comparison import COMPARED, LR_OFFSETS, Comparison, compare_with_paper
from tangential_lab.theory.lemmas import all_lemmas
from tangential_lab.theory.pictures import draw_toy, toy_files
from tangential_lab.theory.toys import (
    MOMENTUM,
    STEPS_SHOWN,
    Problem,
    ToyRun,
    run_toy,
)
