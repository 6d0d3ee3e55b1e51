"""Data sets, pieces of nets and of tasks that several experiments share.

`sources`: where a data set is found, its checksum, arrays prepared once. `splits`: fixed splits.
`embedded`: scikit-learn's digits. `images`: CIFAR-10 and MNIST in memory, and random changes of
images. `photographs`: decoded batch by batch. `losses`: classification, and losses over a batch
that processes share. `nets`: initial weights. `texts`: texts as numbers.
"""
