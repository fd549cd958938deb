"""The prediction of class probabilities."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from hbcomp.training.device import Compute
from hbcomp.training.loader import StreamedSignals, batches

BATCH_SIZE = 1024  # on a CPU; measured: the reference net's rows/s fall beyond it
GPU_BATCH_SIZE = 8192  # assumed: fills a large GPU, 2 GiB of activations in the reference net
WHOLE_VALUES = 1024  # of a row; of longer rows fewer are predicted at once, or memory would grow


@torch.inference_mode()
def predict_probs(
    net: nn.Module,
    signals: Float32[Tensor, "n c t"] | StreamedSignals,
    compute: Compute,
    rows: Int64[Tensor, " m"] | None = None,
) -> Float32[np.ndarray, "m k"]:
    """Return the softmax, in fp32, of the logits the net computes of rows, or all, in eval mode.

    The net is left in eval mode. The batch size is fixed for each kind of device and shape of the
    signals, because another one changes the last bits on some hardware.
    """
    net.eval()
    most = BATCH_SIZE if signals.device.type == "cpu" else GPU_BATCH_SIZE
    n_values = signals.shape[1] * signals.shape[2]
    batch_size = max(1, most * WHOLE_VALUES // max(n_values, WHOLE_VALUES))
    parts = []
    for batch in batches(signals, batch_size, rows):
        with compute.autocast:
            logits = net(batch)
        parts.append(logits.float().softmax(dim=1))
    return torch.cat(parts).cpu().numpy()
