"""See that the demo draws the README's picture: ``python .ci/check_picture.py OVERVIEW.png DEMO.png``.

Versions of the packages differ in where a stream line ends, so that a few lines may lie elsewhere.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

# In the mean, of black against white: 0.045 with the two panels exchanged, 0.028 with all moved by three pixels.
MOST = 0.01


def main(drawn: str, kept: str) -> None:
    """Compare the pictures; the exit status is not zero where they differ."""
    pictures = [plt.imread(file)[..., :3] for file in (drawn, kept)]
    if pictures[0].shape != pictures[1].shape:
        sys.exit(f"{drawn} has the shape {pictures[0].shape}, {kept} {pictures[1].shape}: copy it there")
    difference = float(np.mean(np.abs(pictures[0] - pictures[1])))
    print(f"{drawn} and {kept} differ by {difference:.4f}")
    if difference > MOST:
        sys.exit(f"more than {MOST}: look at it, and if it is right, copy it there")


if __name__ == "__main__":
    main(*sys.argv[1:])
