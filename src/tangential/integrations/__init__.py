"""The monitor as a callback of other libraries' trainers, and our optimizers in their registries.

One file per library, which needs and imports that library: `lightning` has `LightningMonitor`,
`transformers` has `TransformersMonitor`, `timm` has `register`. Import from the file.

Each monitor keeps a `Monitor` on every optimizer of a run. It logs under the trainer's step number,
which counts the steps before the measured step. Every process measures, because the sums of a
sharded weight need all processes; the first process logs. A trainer's loggers get finite numbers
only: NaN and infinity, which a diverged run has, are not valid JSON.
"""
