"""Where a monitor's logs go: CSV, Parquet, TensorBoard, W&B, a list in memory.

A sink is any callable `(values, step)`. Three attributes are optional: `weights` says whether it
wants values for every weight, `log_units(units, step)` receives tensors "weight/column" with a
value for every row or unit before the sink is called, and `Monitor.close` calls `close()`.

- `csv_file`, `parquet_folder`: the formats; `file_sink`: what both share, and their promises
- `rows`: the rows of a log, and `memory`; `services`: TensorBoard and W&B
- `user_sinks`: the checks of the sinks that a user passes to a monitor
"""

from tangential.monitor.sinks.csv_file import Csv
from tangential.monitor.sinks.parquet_folder import Parquet
from tangential.monitor.sinks.rows import memory
from tangential.monitor.sinks.services import TensorBoard, Wandb

__all__ = ["csv", "memory", "parquet", "tensorboard", "wandb"]

csv, parquet, tensorboard, wandb = Csv, Parquet, TensorBoard, Wandb
