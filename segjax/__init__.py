"""segjax: semantic segmentation of street scenes in JAX, from a laptop to a TPU pod.

The rooms, lowest layer first. A file imports from lower layers only (tests/test_layering.py).

typing errors host files    shared types, errors of users, this machine, files that are whole or absent
outputs                     what a command may write
recipes                     recipes by name; those of segjax lie in configs/
ops                         resizing, warping, pooling, convolution and batch norm with PyTorch's semantics
parallel                    devices: start-up, mesh, shardings
visualize                   labels, flow and scores as pictures
losses metrics augment      pure functions of batches on the device
models                      networks by name
data                        datasets, splits, epochs and batches; NumPy only
weights                     weight files and the checkpoints of training runs
media                       frames in; pictures, videos and archives out
inference                   images and videos through a trained network
training                    step, loop, optimizers, schedules, checkpoints
costs                       parameters, multiply-adds and memory of networks
evaluation                  scores of a trained network on a dataset
propagation                 labels propagated to neighbouring frames
pseudo                      labels of unlabelled images by a trained network
submission                  archives for evaluation servers
stages                      what a recipe is made of: train, recalibrate, evaluate, compare, propagate, ...
commands cli                the console command `segjax`; `segjax train` and main.py run recipes
"""

__version__ = "0.1.0"
