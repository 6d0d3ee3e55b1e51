"""Data sets, transforms and losses that several experiments share.

`sources`: where a data set is found, its checksum, arrays prepared once. `splits`: fixed splits.
`embedded`: scikit-learn's digits. `images`: CIFAR-10 and MNIST in memory. `photographs`: decoded
batch by batch. `augment`: random changes of images. `losses`: classification, and losses over a
batch that processes share.
"""
