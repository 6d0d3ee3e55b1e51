"""Downloads of data sets, for the command `tangential data`.

`catalogue`: every data set that an experiment reads. `fetch`: a data set is complete or absent.
`http`: one file, resumed after an interruption. `archives`: unpacked without trusting them.
`checksums`: SHA-256 of every file, recorded next to a data set and compared later.
"""

from tangential_lab.experiments.downloads.catalogue import data_set, data_sets
from tangential_lab.experiments.downloads.checksums import check_files, checksum_note, record_path
from tangential_lab.experiments.downloads.fetch import fetch, is_needed, part_of
from tangential_lab.experiments.downloads.http import OnProgress
