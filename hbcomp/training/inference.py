"""The prediction of class probabilities."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from hbcomp.training.device import Compute
from hbcomp.training.loader import StreamedSignals, batches

BATCH_SIZE = 1024  # on a CPU; measured: the reference net's rows/s fall beyond it
GPU_BATCH_SIZE = 8192  # assumed: fills a large GPU, 2 GiB of activations in the reference net


@torch.inference_mode()
def predict_probs(
    net: nn.Module,
    signals: Float32[Tensor, "n c t"] | StreamedSignals,
    compute: Compute,
    rows: Int64[Tensor, " m"] | None = None,
) -> Float32[np.ndarray, "m k"]:
    """Return the softmax, in fp32, of the logits the net computes of rows, or all, in eval mode.

    The net is left in eval mode. The batch size is fixed for each kind of device, because another
    one changes the last bits on some hardware.
    """
    net.eval()
    batch_size = BATCH_SIZE if signals.device.type == "cpu" else GPU_BATCH_SIZE
    parts = []
    for batch in batches(signals, batch_size, rows):
        with compute.autocast:
            logits = net(batch)
        parts.append(logits.float().softmax(dim=1))
    return torch.cat(parts).cpu().numpy()
