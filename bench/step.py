"""Time one optimizer step against its peers: `tangential bench`, by another name.

python bench/step.py [--shapes resnet50 ...] [--gates open ...] [--threads 1 2] [--rounds 15]
"""

import sys

from tangential_lab.__main__ import main

if __name__ == "__main__":  # the processes that measure memory import this file
    main(["bench", *sys.argv[1:]])
