"""Class probabilities of many signals."""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from hbcomp.training.device import Compute

BATCH_SIZE = 1024  # assumed: large enough to fill a device


@torch.inference_mode()
def predict_probs(
    net: nn.Module, signals: Float32[Tensor, "n t"], compute: Compute
) -> Float32[np.ndarray, "n k"]:
    """Return the softmax, in fp32, of the logits the net computes in eval mode.

    The net is left in eval mode. The batch size is fixed, because on some hardware another one
    changes the last bits.
    """
    net.eval()
    parts = []
    for start in range(0, len(signals), BATCH_SIZE):
        with compute.autocast:
            logits = net(signals[start : start + BATCH_SIZE])
        parts.append(logits.float().softmax(dim=1))
    return torch.cat(parts).cpu().numpy()
