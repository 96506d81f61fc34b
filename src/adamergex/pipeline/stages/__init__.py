"""The kinds of stages, one file each: parameters, how the result is made, and how it is read."""
