"""What the gate's threshold delta does.

chance     how often the gate fires by chance, for random weights and gradients
modules    small models with weights whose scale-invariant units are known to differ
trainings  what the gate does with these weights during a training
pictures   the figure
"""

from tangential_lab.theory.gate.chance import PAIRS, ChanceRates, chance_rates
from tangential_lab.theory.gate.modules import EXAMPLES
from tangential_lab.theory.gate.pictures import draw_gate, gate_files
from tangential_lab.theory.gate.trainings import Examined, examine
