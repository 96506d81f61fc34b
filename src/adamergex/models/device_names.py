"""The names of devices, for those who import no torch."""

from typing import Literal

DeviceName = Literal["auto", "cuda", "mps", "cpu"]
