"""Types of command-line parameters that several commands share."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

MOST = 10_000  # a larger number is a typing error: such a study would never end
Count = Annotated[int, Parameter(validator=Number(gte=1, lte=MOST))]
CountOrZero = Annotated[int, Parameter(validator=Number(gte=0, lte=MOST))]
Threads = Annotated[int, Parameter(validator=Number(gte=1, lte=1024))]
Processes = Annotated[int, Parameter(validator=Number(gte=0, lte=1024))]
# allows --option A B C; there is no --no-option
Many = Parameter(
    consume_multiple=True,
    negative=(),
    show_default=lambda values: " ".join(values or ["none"]),
)
