"""Prints the coefficients in ../exponential.rs and ../gelu.rs, and their worst errors.

    pip install numpy==2.4.6 scipy==1.17.1
    python polynomials.py

Minimax by Lawson's algorithm: least squares, with the weight of each point multiplied by its error until all are even.
"""

import numpy
from scipy.special import log_ndtr

POINTS = 4000


def minimax(powers, target, weight, rounds=400):
    even = numpy.ones(len(target)) / len(target)
    best = None
    for _ in range(rounds):
        root = numpy.sqrt(even) * weight
        found, *_ = numpy.linalg.lstsq(powers * root[:, None], target * root, rcond=None)
        error = numpy.abs((powers @ found - target) * weight)
        worst = error.max()
        if best is None or worst < best[0]:
            best = (worst, found)
        even *= error / worst
        even /= even.sum()
    return best


def points(low, high):
    return low + (high - low) * (0.5 - 0.5 * numpy.cos(numpy.pi * (numpy.arange(POINTS) + 0.5) / POINTS))


def show(name, worst, coefficients):
    print(name, "worst error %.3g" % worst, [str(numpy.float32(value)) for value in coefficients])


def main():
    r = points(-0.5, 0.5)
    powers = numpy.stack([r**power for power in range(1, 6)], 1)
    show("POWER", *minimax(powers, 2**r - 1, 2.0**-r, rounds=200))

    end = 7
    a = points(0, end)
    share = -log_ndtr(-a) / numpy.log(2)
    # The error of GELU as a part of a / 2, and that of the share where it is all but nothing, so that Q goes on falling.
    weight = numpy.maximum(2 * 2.0**-share, 1e-7) * numpy.log(2)
    powers = numpy.stack([(a / end) ** power for power in range(1, 9)], 1)
    worst, found = minimax(powers, share - 1, weight)
    show("SHARE", worst, [-value / end ** (power + 1) for power, value in enumerate(found)])


main()
