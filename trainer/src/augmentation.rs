//! Random crops, flips and RandAugment, as the authors train with.
