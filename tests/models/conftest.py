"""One thread for torch: networks this small gain nothing from more, and threads that wait for a core spin."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
